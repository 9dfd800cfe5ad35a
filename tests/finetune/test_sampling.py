"""Balanced batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from ssl_defect.finetune.sampling import BalancedBatches


def make(case, rows: np.ndarray, targets: np.ndarray, size: int = 8, **settings) -> BalancedBatches:
    return BalancedBatches(case.store, rows, size, settings.pop("seed", 0), targets=targets, **settings)


@pytest.fixture(scope="module")
def rare() -> tuple[np.ndarray, np.ndarray]:
    """57 rows of class 0, 3 of class 1."""
    targets = np.zeros(90, dtype=np.int64)
    targets[[5, 17, 40]] = 1
    return np.arange(60), targets


@pytest.fixture(scope="module")
def case(make_case: Callable[..., object]) -> object:
    return make_case()


def test_classes_come_equally_often(case, rare) -> None:
    batches = make(case, *rare)
    for step in range(20):
        assert Counter(rare[1][batches.rows_of(step)]) == {0: 4, 1: 4}


def test_every_row_of_a_class_comes_once_before_any_comes_twice(case, rare) -> None:
    batches = make(case, *rare, size=6)
    drawn = np.concatenate([batches.rows_of(step) for step in range(19)])  # 57 of each class
    assert Counter(drawn[rare[1][drawn] == 0]) == dict.fromkeys(np.flatnonzero(rare[1][:60] == 0), 1)
    assert Counter(drawn[rare[1][drawn] == 1]) == {5: 19, 17: 19, 40: 19}


def test_a_batch_is_a_pure_function_of_seed_and_step(case, rare) -> None:
    first, second, other = make(case, *rare), make(case, *rare), make(case, *rare, seed=1)
    backwards = [second.rows_of(step) for step in reversed(range(9))][::-1]
    assert all(np.array_equal(first.rows_of(step), backwards[step]) for step in range(9))
    assert any(not np.array_equal(first.rows_of(step), other.rows_of(step)) for step in range(9))


def test_processes_share_a_batch(case, rare) -> None:
    whole = make(case, *rare)
    parts = [make(case, *rare, rank=rank, processes=2) for rank in range(2)]
    together = np.concatenate([part.rows_of(3) for part in parts])
    assert Counter(together) == Counter(whole.rows_of(3))


def test_three_classes_that_do_not_divide_the_batch_even_out_over_batches(case) -> None:
    targets = np.arange(90) % 3
    batches = make(case, np.arange(90), targets, size=8)
    drawn = np.concatenate([batches.rows_of(step) for step in range(3)])
    assert Counter(targets[drawn]) == {0: 8, 1: 8, 2: 8}


def test_batch_carries_target_and_mask(case) -> None:
    batch = make(case, case.store.rows("train"), case.store.labels, masks=True)(0)
    assert batch["mask"].shape == (8, 1, 32, 32)
    assert np.array_equal(batch["target"], case.store.labels[batch["index"]])
    assert np.array_equal(batch["mask"].flatten(1).any(1), batch["label"] == 1)
