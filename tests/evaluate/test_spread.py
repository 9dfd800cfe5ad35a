"""Parts of a variance, their degrees of freedom, the interval and its p: by hand, against scipy, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ssl_defect.evaluate.spread import Part, ends, freedom, of_groups, of_seeds, p_value, reach


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=30)
    without = (values.sum() - values) / 29
    assert of_groups(without).variance == pytest.approx(values.var(ddof=1) / 30)


def test_degrees_of_freedom_by_hand() -> None:
    assert freedom(np.array([1.0, -1, 1, -1])) == 3  # 2 * 16 / 4 = 8, but there are four units
    assert freedom(np.array([2.0, -1, -1])) == pytest.approx(2)
    assert freedom(np.r_[3.0, -3.0, np.zeros(98)]) == pytest.approx(4)
    assert freedom(np.zeros(9)) == 8
    assert freedom(1e-170 * np.array([1.0, 1, 0, 0, 0, 0])) >= 1
    assert of_groups(np.array([0.5])).freedom == 0
    assert np.isnan(of_groups(np.array([0.5, np.nan, 0.6])).variance)


def test_they_follow_those_who_tell_and_not_those_who_are_there() -> None:
    rng = np.random.default_rng(1)
    few = [freedom(np.r_[rng.normal(size=20), np.zeros(1980)]) for _ in range(300)]
    many = [freedom(rng.normal(size=2000)) for _ in range(20)]
    assert 11 < np.median(few) < 20
    assert np.median(many) > 1000


def test_one_part_is_students_t() -> None:
    values = np.random.default_rng(2).normal(0.4, 1, 12)
    parts = [of_seeds(values)]
    wanted = stats.ttest_1samp(values, 0)
    low, high = ends(float(values.mean()), parts, 0.95)
    assert (low, high) == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    assert p_value(float(values.mean()), parts) == pytest.approx(wanted.pvalue)


def test_parts_add_up_by_their_own_t() -> None:
    parts = [Part(0.04, 20.0), Part(0.01, 2.0)]
    wanted = np.sqrt(0.04 * stats.t.ppf(0.975, 20) ** 2 + 0.01 * stats.t.ppf(0.975, 2) ** 2)
    assert reach(parts, 0.95) == pytest.approx(wanted)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.999])
def test_p_is_where_the_interval_reaches_zero(level: float) -> None:
    parts = [Part(0.04, 20.0), Part(0.01, 2.0)]
    assert p_value(reach(parts, level), parts) == pytest.approx(1 - level, rel=1e-6)
    assert p_value(-reach(parts, level), parts) == pytest.approx(1 - level, rel=1e-6)


def test_the_ends_of_p() -> None:
    assert p_value(0.0, [Part(0.0, 9.0)]) is None
    assert p_value(0.0, [Part(1.0, 9.0), Part(1.0, 2.0)]) == 1
    assert p_value(1e9, [Part(1.0, 90.0), Part(1e-9, 80.0)]) == pytest.approx(1e-12)


def test_a_share_stays_in_its_range_and_leans_inward() -> None:
    low, high = ends(0.95, [Part(0.03**2, 20.0)], 0.95, share=True)
    assert 0 < low < 0.95 < high < 1
    assert 0.95 - low > high - 0.95
    low, high = ends(0.5, [Part(1e-6, 1e6)], 0.95, share=True)
    assert (low, high) == pytest.approx((0.5 - 1.96e-3, 0.5 + 1.96e-3), abs=1e-6)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("vary", [0.0, 0.5, 1.0, 2.0, 8.0])
def test_groups_and_seeds_together_cover_however_they_compare(seeds: int, vary: float) -> None:
    """Of 4,000 means; one t of joint degrees of freedom holds 88% of them with two seeds that vary most."""
    rng = np.random.default_rng([seeds, round(10 * vary)])
    points = rng.normal(size=(4000, 1)) + vary * rng.normal(size=(4000, seeds))
    told = [Part(rng.chisquare(15) / 15, 15.0) for _ in points]
    held = [
        abs(row.mean()) <= reach([one, of_seeds(row)] if vary else [one], 0.95)
        for row, one in zip(points, told, strict=True)
    ]
    assert 0.94 <= np.mean(held) <= (0.993 if seeds == 2 else 0.985)
