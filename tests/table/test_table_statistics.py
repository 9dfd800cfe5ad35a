"""The tests of a table against scipy, printed values and cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from ssl_defect.evaluate import delong
from ssl_defect.evaluate.bootstrap import Resampling, paired_difference
from ssl_defect.evaluate.metrics import image_family
from ssl_defect.table.statistics import alike, friedman, holm, sign_flip_p

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


def swapped(labels: np.ndarray, a: np.ndarray, b: np.ndarray, draws: int = 600) -> float:
    """Permutation p of a difference of AUROCs: scores, as ranks, change sides image by image (Venkatraman & Begg)."""
    rng, ranked = np.random.default_rng(0), np.stack([stats.rankdata(a), stats.rankdata(b)])
    gap = abs(roc_auc_score(labels, a) - roc_auc_score(labels, b))
    above = 1
    for _ in range(draws):
        turn = rng.random(len(labels)) < 0.5
        one, other = np.where(turn, ranked[::-1], ranked)
        above += abs(roc_auc_score(labels, one) - roc_auc_score(labels, other)) >= gap - 1e-12
    return above / (draws + 1)


def two_detectors(shift: float, seed: int, count: int = 300) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(int)
    common = rng.normal(labels * 1.2, 1)
    return labels, common + rng.normal(labels * shift, 0.8), common + rng.normal(0, 0.8, count)


def p_of(found: dict[str, float], level: float = 0.95) -> float:
    """p of an entry whose interval has very many degrees of freedom."""
    error = (found["high"] - found["low"]) / 2 / stats.norm.ppf((1 + level) / 2)
    return float(2 * stats.norm.sf(abs(found["value"]) / error))


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.3])
def test_the_paired_difference_is_near_delongs_and_near_permutation(shift: float) -> None:
    labels, a, b = two_detectors(shift, 3)
    families = [image_family(labels, x, 0.5) for x in (a, b)]
    found = paired_difference(*families, np.arange(300), Resampling())["auroc"]
    exact = delong.paired_difference(labels, (a, b))
    assert (found["low"], found["high"]) == pytest.approx((exact["low"], exact["high"]), abs=0.002)
    assert p_of(found) == pytest.approx(exact["p"], abs=0.01)
    assert exact["p"] == pytest.approx(swapped(labels, a, b), abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_the_paired_difference_of_accuracies_is_scipys_paired_t_test(seed: int) -> None:
    labels, a, b = two_detectors(0.2, seed, 190)
    families = [image_family(labels, x, 0.5) for x in (a, b)]
    found = paired_difference(*families, np.arange(190), Resampling())["accuracy"]
    right = [((x >= 0.5) == labels).astype(float) for x in (a, b)]
    wanted = stats.ttest_rel(*right)
    low, high = wanted.confidence_interval(0.95)
    assert found["value"] == pytest.approx(right[0].mean() - right[1].mean())
    # t has fewer degrees of freedom, since most images do not differ
    assert (found["high"] - found["low"]) == pytest.approx(high - low, rel=0.04)
    assert p_of(found) == pytest.approx(wanted.pvalue, abs=0.02)


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
