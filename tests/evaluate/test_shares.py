"""Intervals of shares against scipy and by simulation; recall by area."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from ssl_defect.evaluate.shares import share_of, wilson, worth
from ssl_defect.evaluate.sizes import quarters, recall_by_area


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (3, 7), (7, 7), (40, 200)])
def test_the_wilson_interval_is_that_of_scipy(hits: int, count: int) -> None:
    found = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits / count, count, norm.ppf(0.975)) == pytest.approx((found.low, found.high), abs=1e-9)


def test_copies_that_agree_are_worth_one_image() -> None:
    hits = np.array([1.0, 0, 1, 1, 0, 1, 1, 0, 1, 1])
    alone, tripled = share_of(hits, np.arange(10), 0.95), share_of(np.repeat(hits, 3), np.repeat(range(10), 3), 0.95)
    assert tripled["value"] == alone["value"]
    inverse = np.repeat(np.arange(10), 3)
    assert worth(np.repeat(hits, 3), inverse, 10) == pytest.approx(10, abs=1.1)
    assert tripled["high"] - tripled["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.06)
    assert worth(np.ones(30), inverse, 10) == 10


def test_a_share_of_all_is_not_taken_for_certain() -> None:
    found = share_of(np.ones(12), np.arange(12), 0.95)
    assert found["value"] == found["high"] == 1
    assert 0.65 < found["low"] < 0.75  # of 12 independent images 0.735 by Clopper and Pearson


def test_what_cannot_be_known_has_a_reason() -> None:
    assert share_of(np.zeros(0), np.zeros(0), 0.95)["why"] == "no images"
    assert share_of(np.ones(3), np.zeros(3), 0.95) == {
        "value": 1.0,
        "low": None,
        "high": None,
        "why": "a single group: nothing to draw from",
    }


@pytest.mark.parametrize("true", [0.5, 0.8, 0.95])
def test_it_covers_as_often_as_it_says_with_copies(true: float) -> None:
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        groups = np.repeat(np.arange(20), rng.integers(1, 4, 20))
        found = share_of((rng.random(20) < true)[groups], groups, 0.95)
        inside += found["low"] <= true <= found["high"]
    assert 0.92 <= inside / 400 <= 0.99  # three standard errors around 0.95, and more above: it errs to the wide side


def test_areas_fall_into_quarters_and_equal_ones_stay_together() -> None:
    assert [part.tolist() for part in quarters(np.arange(1, 9) / 100)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [len(part) for part in quarters(np.array([0.1] * 5 + [0.2]))] == [5, 1]


def test_recall_is_counted_in_each_quarter() -> None:
    areas = np.arange(1, 41) / 1000
    rows = recall_by_area(areas, areas > 0.010, np.arange(40) // 2, 0.95)
    assert rows is not None
    assert [(*row["area"], row["images"], row["groups"], row["recall"]["value"]) for row in rows] == [
        (0.001, 0.01, 10, 5, 0.0),
        (0.011, 0.02, 10, 5, 1.0),
        (0.021, 0.03, 10, 5, 1.0),
        (0.031, 0.04, 10, 5, 1.0),
    ]
    assert rows[0]["recall"]["high"] > 0.4
    assert recall_by_area(areas[:19], areas[:19] > 0, np.arange(19), 0.95) is None
