"""Defects among the good images are found by the others, and copies cannot vouch for each other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssl_defect.anomaly.cleaning import halves, suspects

NONE = np.full(100, -1)


def nearest(values: np.ndarray):
    """Distance of each value to the nearest known one."""
    return lambda known, asked: np.abs(values[asked][:, None] - values[known]).min(axis=1)


def test_what_the_others_do_not_explain_is_suspected() -> None:
    values = np.random.default_rng(0).normal(size=100)
    values[[7, 50, 93]] += [30, 60, 90]
    found = suspects(np.arange(100), NONE, 0.03, nearest(values), 0)
    assert found.tolist() == [7, 50, 93]


def test_a_copy_does_not_vouch_for_a_defect() -> None:
    values = np.random.default_rng(0).normal(size=100)
    values[[7, 50]] = [30.0, 30.1]  # two pictures of one defective part
    groups = np.arange(100)
    groups[50] = groups[7]
    assert suspects(np.arange(100), groups, 0.02, nearest(values), 0).tolist() == [7, 50]


def test_no_share_asks_nobody() -> None:
    def never(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
        raise AssertionError

    assert not len(suspects(np.arange(10), NONE, 0.0, never, 0))
    assert not len(suspects(np.arange(10), NONE, 0.04, never, 0))  # less than half an image


@given(st.lists(st.integers(-1, 6), min_size=2, max_size=60), st.integers(0, 5))
def test_halves_keep_groups_and_neither_is_empty(groups: list[int], seed: int) -> None:
    keys = np.array(groups)
    side = halves(keys, seed)
    assert side.any()
    assert not side.all()
    if len(set(groups)) > 1 or -1 in groups:
        for group in set(groups) - {-1}:
            assert len(set(side[keys == group])) == 1
