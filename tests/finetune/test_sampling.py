"""Balanced batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from ssl_defect.finetune.sampling import BalancedBatches


def make(case, rows: np.ndarray, targets: np.ndarray, size: int = 8, **settings) -> BalancedBatches:
    return BalancedBatches(case.store, rows, size, settings.pop("seed", 0), strata=targets, targets=targets, **settings)


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


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("half_good", [False, True])
def test_every_process_sees_every_class(case, rare, processes: int, half_good: bool) -> None:
    settings = {"size": 32, "processes": processes, "half_good": half_good}
    parts = [make(case, *rare, rank=rank, **settings) for rank in range(processes)]
    counts = np.array([[np.bincount(rare[1][part.rows_of(s)], minlength=2) for part in parts] for s in range(50)])
    assert (counts.sum(axis=2) == 32 // processes).all()
    assert (counts.sum(axis=1) == 16).all()
    assert (counts > 0).all(axis=2).mean() > 0.98  # by chance, so hardly ever none
    np.testing.assert_allclose(counts.mean(axis=0), 16 / processes, atol=0.8)  # over the steps as many of each


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


@pytest.fixture(scope="module")
def kinds() -> tuple[np.ndarray, np.ndarray]:
    """40 good rows, 15 of one kind of defect, 4 of another, 1 of a third."""
    return np.arange(60), np.repeat([0, 1, 2, 3, 0], [40, 15, 4, 1, 30])


def test_half_good_and_every_kind_of_defect_equally_often(case, kinds) -> None:
    batches = make(case, *kinds, size=12, half_good=True)
    for step in range(20):
        assert Counter(kinds[1][batches.rows_of(step)]) == {0: 6, 1: 2, 2: 2, 3: 2}


def test_with_half_good_every_row_comes_once_before_any_comes_twice(case, kinds) -> None:
    batches = make(case, *kinds, size=6, half_good=True)
    drawn = np.concatenate([batches.rows_of(step) for step in range(60)])  # 180 good, 60 of each kind
    counts = [Counter(drawn[kinds[1][drawn] == kind]) for kind in range(4)]
    assert [len(count) for count in counts] == [40, 15, 4, 1]
    assert {max(count.values()) - min(count.values()) for count in counts} == {0, 1}
    assert max(counts[0].values()) == 5
    assert set(counts[1].values()) == {4}


def test_half_good_where_there_is_no_good_or_no_defect(case, kinds) -> None:
    rows, targets = kinds
    defects = make(case, rows[40:], targets, size=6, half_good=True)
    assert Counter(targets[defects.rows_of(0)]) == {1: 2, 2: 2, 3: 2}
    good = make(case, rows[:40], targets, size=6, half_good=True)
    assert Counter(targets[good.rows_of(3)]) == {0: 6}


def test_two_classes_half_good_are_balanced(case, rare) -> None:
    balanced, halves = make(case, *rare), make(case, *rare, half_good=True)
    assert all(np.array_equal(balanced.rows_of(step), halves.rows_of(step)) for step in range(9))
