"""The tests of a table against scipy, printed values and cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ssl_defect.evaluate import delong
from ssl_defect.evaluate.bootstrap import Resampling, draw, paired_difference
from ssl_defect.evaluate.metrics import image_family
from ssl_defect.table.statistics import alike, bootstrap_p, friedman, holm, seeds_p, sign_flip_p

NAMES = ["a", "b", "c", "d"]
SCORES = np.array([[0.7, 0.8, 0.8, 0.9], [0.5, 0.6, 0.4, 0.7], [0.9, 0.9, 0.9, 0.9], [0.3, 0.2, 0.4, 0.6]])


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, and 0.04 raised to 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, None, 0.7]) == [1.0, None, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_its_stepwise_rule_does(values: list[float]) -> None:
    alpha, m, rejected = 0.05, len(values), set()
    for i, place in enumerate(sorted(range(m), key=lambda k: values[k])):
        if values[place] * (m - i) > alpha:
            break
        rejected.add(place)
    adjusted = holm(values)
    assert {k for k, p in enumerate(adjusted) if p is not None and p <= alpha} == rejected
    assert all(a is not None and a >= v for a, v in zip(adjusted, values, strict=True))


@pytest.mark.parametrize("count", [2, 5, 9])
def test_sign_flips_are_scipys_permutation_test(count: int) -> None:
    values = np.random.default_rng(count).normal(0.4, 1, count)
    wanted = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p(values) == pytest.approx(wanted.pvalue)


def test_many_sign_flips_are_near_the_t_test() -> None:
    values = np.random.default_rng(0).normal(0.25, 1, 60)
    assert sign_flip_p(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert sign_flip_p(values) == sign_flip_p(-values)


def test_all_of_one_sign_is_the_smallest_p_there_is() -> None:
    assert sign_flip_p([0.1, 0.2, 0.3]) == 2 / 8
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([]) == 1.0


def test_bootstrap_p_by_hand() -> None:
    assert bootstrap_p(np.array([1.0, 2, 3, -1, np.nan])) == pytest.approx(2 * 2 / 5)
    assert bootstrap_p(np.full(999, 0.5)) == pytest.approx(2 / 1000)
    assert bootstrap_p(np.zeros(9)) == 1.0
    assert bootstrap_p(np.array([np.nan])) is None


def drawn_difference(shift: float, seed: int) -> tuple[np.ndarray, ...]:
    """Labels, two detectors' scores of 400 images, and the draws of their AUROCs' difference."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(400) % 2).astype(int)
    common = rng.normal(labels * 1.2, 1)
    a, b = common + rng.normal(labels * shift, 0.8), common + rng.normal(0, 0.8, 400)
    drawn = draw([image_family(labels, x, 0.5) for x in (a, b)], np.arange(400), Resampling(4000))
    return labels, a, b, drawn[0]["auroc"] - drawn[1]["auroc"]


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_bootstrap_p_is_near_delongs(shift: float) -> None:
    labels, a, b, drawn = drawn_difference(shift, 3)
    wanted = delong.paired_difference(labels, (a, b))["p"]
    assert bootstrap_p(drawn) == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.3, 0.6])
def test_p_falls_below_alpha_where_the_interval_leaves_zero_out(shift: float) -> None:
    labels, a, b, drawn = drawn_difference(shift, 5)
    families = [image_family(labels, x, 0.5) for x in (a, b)]
    entry = paired_difference(*families, np.arange(400), Resampling(4000))["auroc"]
    p = bootstrap_p(drawn)
    assert p is not None
    assert (p < 0.05) == (entry["low"] > 0 or entry["high"] < 0)


def test_bootstrap_p_of_a_mean_is_near_scipys_paired_tests() -> None:
    rng = np.random.default_rng(1)
    right = rng.random((2, 300)) < np.array([[0.80], [0.74]])  # accuracy of two detectors
    differences = right[0].astype(float) - right[1]
    picks = rng.integers(0, 300, (8000, 300))
    p = bootstrap_p(differences[picks].mean(1))
    assert p == pytest.approx(stats.ttest_rel(*right.astype(float)).pvalue, abs=0.02)
    assert p == pytest.approx(sign_flip_p(differences), abs=0.03)


def test_friedman_is_scipys_and_its_ranks_share_ties() -> None:
    found = friedman(NAMES, SCORES)
    # by hand, of the rows: 4 2.5 2.5 1; 3 2 4 1; 2.5 each; 3 4 2 1
    assert found.ranks == pytest.approx([12.5 / 4, 11 / 4, 11 / 4, 5.5 / 4])
    wanted = stats.friedmanchisquare(*SCORES.T)
    assert found.statistic == pytest.approx(wanted.statistic)
    assert found.p == pytest.approx(wanted.pvalue)


def test_nemenyis_distance_is_the_printed_one_of_demsars_example() -> None:
    # Demsar, JMLR 7 (2006) 1, section 3.2.2: four algorithms on 14 sets, 1.25 at 0.05
    found = friedman(NAMES, np.random.default_rng(0).random((14, 4)))
    assert found.distance == pytest.approx(1.25, abs=0.005)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_nemenyis_q_is_that_of_the_printed_table(k: int, q: float) -> None:
    found = friedman([str(i) for i in range(k)], np.random.default_rng(0).random((12, k)))
    assert found.distance == pytest.approx(q * np.sqrt(k * (k + 1) / 72), abs=2e-3)


def test_two_treatments_or_equal_ones_have_no_friedman_statistic() -> None:
    assert friedman(["a", "b"], np.array([[1.0, 2], [3, 4]])).p is None
    assert friedman(["a", "b", "c"], np.ones((4, 3))).p is None


def test_who_lies_within_the_critical_difference() -> None:
    ranked = replace(friedman(NAMES, SCORES), ranks=[3.143, 2.0, 2.893, 1.964], distance=1.25)
    assert alike(ranked) == [(0, 3)]  # in order 1.964, 2.000, 2.893, 3.143: 1.179 apart
    assert alike(replace(ranked, distance=1.0)) == [(0, 2), (2, 3)]  # 2.000 and 3.143 are 1.143 apart
    assert alike(replace(ranked, distance=0.01)) == []


def test_seeds_p_is_the_t_test_without_groups_and_the_normal_one_without_seeds() -> None:
    points = np.array([0.02, 0.05, 0.03, 0.01])
    assert seeds_p(points, np.full(50, points.mean())) == pytest.approx(stats.ttest_1samp(points, 0).pvalue)
    draws = np.random.default_rng(0).normal(0.03, 0.02, 4000)
    wanted = 2 * stats.norm.sf(0.03 / draws.std(ddof=1))
    assert seeds_p(np.full(4, 0.03), draws) == pytest.approx(wanted, rel=1e-6)
    assert seeds_p(np.array([0.1]), draws) is None
    assert seeds_p(np.zeros(3), np.zeros(9)) is None


@pytest.mark.parametrize(("of_groups", "of_seeds"), [(0.02, 0.02), (0.005, 0.02), (0.02, 0.002)])
def test_three_seeds_without_a_difference_are_seldom_called_different(of_groups: float, of_seeds: float) -> None:
    """Of 2,000 differences that are chance alone; where seeds vary most 8% stay, of the bootstrap's 19%."""
    rng, below, plain = np.random.default_rng(0), 0, 0
    for _ in range(2000):
        points = rng.normal(0, of_groups) + rng.normal(0, of_seeds, 3)
        shift = rng.normal(0, of_groups, 400)
        p = seeds_p(points, points.mean() + shift)
        assert p is not None
        below += p < 0.05
        p = bootstrap_p(points[rng.integers(0, 3, (400, 3))].mean(1) + shift)
        assert p is not None
        plain += p < 0.05
    assert below / 2000 < (0.09 if of_seeds > of_groups else 0.065)
    if of_seeds > of_groups:
        assert plain / 2000 > 0.15
