"""DeLong: the numbers of a case by hand, of the definition over all pairs, and of a simulation; ties and groups."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssl_defect.evaluate.delong import covariance, interval, paired_difference, placements


def _direct(labels, scores):
    """The definition: every good beside every defective image, equation 2 and 4 to 6 of DeLong et al."""
    bad, good = np.flatnonzero(labels), np.flatnonzero(labels == 0)
    wins = np.array([[[np.sign(row[x] - row[y]) / 2 + 0.5 for y in good] for x in bad] for row in scores])
    areas, by_bad, by_good = wins.mean((1, 2)), wins.mean(2), wins.mean(1)
    found = np.zeros((len(scores), len(scores)))
    for r, s in product(range(len(scores)), repeat=2):
        s10 = ((by_bad[r] - areas[r]) * (by_bad[s] - areas[s])).sum() / (len(bad) - 1)
        s01 = ((by_good[r] - areas[r]) * (by_good[s] - areas[s])).sum() / (len(good) - 1)
        found[r, s] = s10 / len(bad) + s01 / len(good)
    return areas, found


def _case(seed, count=40, ties=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(int)
    scores = rng.normal(labels, 1.0, (2, count)) + rng.normal(size=count)
    return labels, np.round(scores, 0) if ties else scores


def test_a_case_by_hand():
    labels, scores = np.array([1, 1, 0, 0, 0]), np.array([0.8, 0.4, 0.1, 0.4, 0.6])
    # 0.8 is above all three; 0.4 is above one and level with one: placements 1 and 1/2, AUROC 3/4
    assert placements(labels, scores).tolist() == [1, 0.5, 1, 0.75, 0.5]
    areas, found = covariance(labels, scores)
    assert areas.tolist() == [0.75]
    # S10 = (1/16 + 1/16) / 1 = 1/8 of 2 defective, S01 = (1/16 + 0 + 1/16) / 2 = 1/16 of 3 good
    assert found[0, 0] == pytest.approx(1 / 16 + 1 / 48)


@pytest.mark.parametrize("ties", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_definition_over_all_pairs(seed, ties):
    labels, scores = _case(seed, ties=ties)
    areas, found = covariance(labels, scores)
    direct_areas, direct = _direct(labels, scores)
    assert areas == pytest.approx(direct_areas, abs=1e-12)
    assert areas == pytest.approx([roc_auc_score(labels, row) for row in scores], abs=1e-12)
    assert found == pytest.approx(direct, abs=1e-12)


def test_its_variance_is_that_of_many_sets():
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3 == 0
    shared = rng.normal(size=(1500, 1, 150))
    scores = rng.normal(labels * [[1.2], [0.8]], 1.0, (1500, 2, 150)) + 0.7 * shared
    areas, every = covariance(labels, scores.reshape(3000, 150))  # each detector's variance is of its own set
    found = np.mean([every[k : k + 2, k : k + 2] for k in range(0, 3000, 2)], 0)
    assert found == pytest.approx(np.cov(areas.reshape(1500, 2).T), rel=0.12)
    assert found[0, 1] > 0.1 * found[0, 0]


def test_groups_of_one_change_nothing_and_copies_do_not_count_twice():
    labels, scores = _case(3, 60)
    _, alone = covariance(labels, scores)
    assert covariance(labels, scores, np.arange(60)[::-1] * 7)[1] == pytest.approx(alone, abs=1e-15)
    copied = covariance(np.repeat(labels, 5), np.repeat(scores, 5, axis=1), np.repeat(np.arange(60), 5))[1]
    assert copied == pytest.approx(alone, rel=1e-9)
    assert covariance(np.repeat(labels, 5), np.repeat(scores, 5, axis=1))[1][0, 0] < 0.3 * alone[0, 0]


def test_the_variance_over_groups_is_that_of_many_sets_of_groups():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(50), 3)
    labels = np.arange(150) % 3 == 0  # each group holds one defective and two good images: they depend on each other
    scores = rng.normal(labels, 0.7, (1500, 150)) + rng.normal(size=(1500, 50))[:, groups]
    areas, found = covariance(labels, scores, groups)
    plain = covariance(labels, scores)[1]
    assert np.diag(found).mean() == pytest.approx(np.var(areas), rel=0.12)
    assert np.diag(plain).mean() > 1.2 * np.var(areas)  # what a group shares cancels within it


def test_the_interval_stays_in_range_and_lies_around_the_value():
    labels, scores = _case(4)
    logit, plain = (interval(labels, scores[0], scale=scale) for scale in ("logit", "plain"))
    for found in (logit, plain):
        assert 0 < found["low"] < found["value"] < found["high"] < 1
    assert logit["value"] - logit["low"] > logit["high"] - logit["value"]
    assert plain["value"] - plain["low"] == pytest.approx(plain["high"] - plain["value"])
    assert interval(labels, scores[0], level=0.5)["low"] > logit["low"]
    near = interval(np.arange(20) >= 10, np.r_[np.arange(9), 10.5, np.arange(10, 20)])
    assert near["value"] == pytest.approx(0.99)
    assert near["high"] < 1


@pytest.mark.parametrize(
    ("labels", "groups", "why"),
    [
        (np.ones(9), None, "needs both good and defective items"),
        (np.arange(9) >= 5, np.arange(9) >= 5, "needs two groups of each class"),
        (np.arange(9) >= 5, None, "no variance"),
    ],
)
def test_without_a_variance_there_is_a_reason(labels, groups, why):
    found = interval(labels, np.arange(9), groups)
    assert found["low"] is found["high"] is None
    assert why in found["why"]


def test_the_difference_is_paired_and_its_p_value_is_even_where_nothing_differs():
    labels, scores = _case(5, 300)
    better = scores[0] + 0.5 * labels
    found = paired_difference(labels, (better, scores[0]))
    assert 0 < found["low"] < found["value"] < found["high"]
    assert found["value"] == pytest.approx(roc_auc_score(labels, better) - roc_auc_score(labels, scores[0]))
    turned = paired_difference(labels, (scores[0], better))
    assert (turned["value"], turned["low"]) == pytest.approx((-found["value"], -found["high"]))
    assert turned["p"] == pytest.approx(found["p"])
    assert found["p"] < 0.01
    alone = interval(labels, better, scale="plain")
    assert found["high"] - found["low"] < 0.7 * (alone["high"] - alone["low"])
    cases = [_case(100 + seed, 200) for seed in range(400)]
    even = [paired_difference(labels, tuple(scores))["p"] for labels, scores in cases]
    assert np.histogram(even, bins=4, range=(0, 1))[0] == pytest.approx([100] * 4, abs=35)


def test_no_difference_has_no_p_value():
    labels, scores = _case(6)
    found = paired_difference(labels, (scores[0], scores[0] * 2))
    assert found["value"] == 0
    assert found["p"] is None
    assert paired_difference(np.zeros(40), tuple(scores))["value"] is None
