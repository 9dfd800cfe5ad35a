"""Draws and intervals: they take groups as units, hold the value, and cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssl_defect.evaluate.bootstrap import (
    BLOCKS,
    Resampling,
    draw,
    intervals,
    leave_out,
    paired_difference,
    told_by,
    weights_in_chunks,
    weights_without,
)
from ssl_defect.evaluate.metrics import image_family, subset

SPEC = Resampling(400, 0.95, 0)


def _scores(seed, count=200, shift=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3 == 0
    return labels.astype(int), rng.normal(labels * shift, 1.0)


def test_every_interval_holds_its_value():
    labels, scores = _scores(0)
    found = intervals(image_family(labels, scores, 0.5), np.arange(200), SPEC)
    assert set(found) == {"auroc", "ap", "precision", "recall", "f1", "accuracy"}
    assert all(entry["low"] < entry["value"] < entry["high"] for entry in found.values())


def test_the_draws_follow_the_seed_alone():
    first, again = (next(weights_in_chunks(np.arange(50), SPEC)) for _ in range(2))
    assert (first == again).all()
    assert (first != next(weights_in_chunks(np.arange(50), Resampling(400, 0.95, 1)))).any()


def test_each_block_is_left_out_once_and_whole():
    few = np.concatenate(list(weights_without(np.array([7, 7, 3, 3, 3, 9]))))
    assert few.tolist() == [[1, 1, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]
    groups = np.repeat(np.arange(3 * BLOCKS), 2)
    many = np.concatenate(list(weights_without(groups)))
    assert many.shape == (BLOCKS, len(groups))
    assert ((many == 0).sum(axis=0) == 1).all()
    assert ((many == 0).sum(axis=1) == 6).all()
    assert (many[:, ::2] == many[:, 1::2]).all()


def test_a_value_left_out_is_the_metric_of_the_others():
    labels, scores = _scores(8, 40)
    groups = np.arange(40) // 2
    (found,) = leave_out([image_family(labels, scores, 0.5)], groups)
    wanted = [roc_auc_score(labels[groups != g], scores[groups != g]) for g in range(20)]
    assert found["auroc"] == pytest.approx(wanted)


def test_the_interval_of_a_share_is_that_of_its_variance_on_the_logit_scale():
    """Accuracy is a mean of n zeros and ones: its jackknife variance is p (1 - p) / (n - 1)."""
    from scipy.special import expit, logit
    from scipy.stats import t

    labels, scores = _scores(9, 120)
    found = intervals(image_family(labels, scores, 0.5), np.arange(120), SPEC)["accuracy"]
    right = (scores >= 0.5) == labels
    p, squares = right.mean(), (right - right.mean()) ** 2
    freedom = 2 * squares.sum() ** 2 / (squares**2).sum()
    reach = t.ppf(0.975, min(freedom, 119)) * np.sqrt(p * (1 - p) / 119) / (p * (1 - p))
    assert (found["low"], found["high"]) == pytest.approx(expit(logit(p) + np.array([-reach, reach])))


def test_the_jackknife_is_near_the_bootstrap_where_there_is_much_of_all():
    labels, scores = _scores(10, 900)
    family, groups = image_family(labels, scores, 0.5), np.arange(900)
    (without,), (drawn,) = leave_out([family], groups), draw([family], groups, Resampling(2000))
    for name in ("auroc", "ap", "f1", "recall"):
        error = np.sqrt((BLOCKS - 1) * without[name].var())
        assert error == pytest.approx(drawn[name].std(), rel=0.15), name


def test_a_group_is_drawn_whole_and_every_draw_has_as_many_groups():
    groups = np.array([7, 7, 3, 3, 3, 9])
    weights = np.concatenate(list(weights_in_chunks(groups, Resampling(500))))
    assert weights.shape == (500, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 5]].sum(1) == 3).all()
    assert weights[:, 5].mean() == pytest.approx(1, abs=0.15)


def test_copies_in_one_group_do_not_narrow_the_interval():
    labels, scores = _scores(2, 90)
    alone = intervals(image_family(labels, scores, 0.5), np.arange(90), SPEC)["auroc"]
    family = image_family(np.repeat(labels, 6), np.repeat(scores, 6), 0.5)
    grouped = intervals(family, np.repeat(np.arange(90), 6), SPEC)["auroc"]
    ignored = intervals(family, np.arange(540), SPEC)["auroc"]
    assert grouped == pytest.approx(alone)
    assert ignored["high"] - ignored["low"] < 0.6 * (alone["high"] - alone["low"])


def test_a_draw_is_the_metric_of_the_drawn_images():
    labels, scores = _scores(3, 40)
    (found,) = draw([image_family(labels, scores, 0.5)], np.arange(40), SPEC)
    weights = next(weights_in_chunks(np.arange(40), SPEC)).astype(int)
    for one in range(5):
        drawn = np.repeat(np.arange(40), weights[one])
        assert found["auroc"][one] == pytest.approx(roc_auc_score(labels[drawn], scores[drawn]))


def test_a_single_group_has_a_value_and_no_interval():
    labels, scores = _scores(4, 30)
    found = intervals(image_family(labels, scores, 0.5), np.zeros(30), SPEC)["auroc"]
    assert found["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["low"] is found["high"] is None
    assert "single group" in found["why"]


def test_a_class_in_one_group_has_no_interval():
    labels = np.arange(50) == 49
    found = intervals(image_family(labels, np.r_[np.linspace(0, 1, 49), 0.5], 0.5), np.arange(50), SPEC)
    assert found["auroc"]["value"] is not None
    assert found["auroc"]["low"] is None
    assert "without one of the groups" in found["auroc"]["why"]
    assert found["accuracy"]["low"] is not None


def test_all_right_has_the_interval_of_as_many_groups_all_right():
    labels, groups = np.repeat([1, 0], [12, 28]), np.arange(40) // 2
    found = intervals(image_family(labels, labels + np.linspace(0, 0.1, 40), 0.5), groups, SPEC)
    told = {"auroc": 6, "ap": 6, "recall": 6, "precision": 6, "f1": 6, "accuracy": 20}  # groups
    for name, count in told.items():
        assert found[name]["high"] == found[name]["value"] == 1, name
        assert found[name]["low"] == pytest.approx(0.025 ** (1 / count)), name  # Clopper & Pearson's end
    wrong = intervals(image_family(labels, -labels, 0.5), groups, SPEC)["recall"]
    assert (wrong["value"], wrong["low"]) == (0, 0)
    assert wrong["high"] == pytest.approx(1 - 0.025 ** (1 / 6))


def test_how_many_groups_tell_of_a_metric():
    labels = np.array([1, 0, 1, 0, 0, 0, 0])
    family = image_family(labels, np.arange(7), 3)
    assert told_by(family, "auroc", np.arange(7)) == 2
    assert told_by(family, "auroc", np.array([0, 0, 1, 2, 3, 4, 5])) == 2  # a group that holds both, and a pair
    assert told_by(family, "auroc", np.array([0, 0, 1, 1, 2, 3, 4])) == 2  # two that hold both, and good ones alone
    assert told_by(family, "precision", np.arange(7)) == 4  # those called defective
    three = lambda weights: {"all": np.where((weights[:, :3] > 0).all(axis=1), 1.0, np.nan)}  # noqa: E731
    assert told_by(three, "all", np.arange(5)) == 0


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_null_with_a_reason(label):
    found = intervals(image_family(np.full(9, label), np.linspace(0, 1, 9), 0.5), np.arange(9), SPEC)
    assert found["auroc"]["value"] is None
    assert found["auroc"]["why"] == "needs both good and defective items"
    assert found["accuracy"]["value"] is not None


def test_no_images_at_all():
    found = intervals(image_family(np.zeros(0), np.zeros(0), 0.5), np.zeros(0), SPEC)
    assert all(entry["value"] is None and entry["why"] for entry in found.values())


def test_a_difference_with_itself_is_nothing_and_pairing_narrows():
    labels, scores = _scores(5)
    a = image_family(labels, scores, 0.5)
    rng = np.random.default_rng(0)
    b = image_family(labels, scores + rng.normal(size=200) * 0.2, 0.5)
    nothing = paired_difference(a, a, np.arange(200), SPEC)["auroc"]
    assert (nothing["value"], nothing["low"], nothing["high"]) == (0, 0, 0)
    difference = paired_difference(a, b, np.arange(200), SPEC)["auroc"]
    one, other = (intervals(family, np.arange(200), SPEC)["auroc"] for family in (a, b))
    assert difference["value"] == pytest.approx(one["value"] - other["value"])
    assert difference["high"] - difference["low"] < 0.5 * (one["high"] - one["low"])


def test_a_subset_shares_the_draws_of_the_whole():
    labels, scores = _scores(6, 60)
    rows = np.arange(0, 60, 2)
    (whole,) = draw([subset(image_family(labels[rows], scores[rows], 0.5), rows)], np.arange(60), SPEC)
    weights = next(weights_in_chunks(np.arange(60), SPEC)).astype(int)
    drawn = np.concatenate([np.full(weights[0][row], row) for row in rows])
    assert whole["auroc"][0] == pytest.approx(roc_auc_score(labels[drawn], scores[drawn]))


@pytest.mark.slow
def test_95_percent_intervals_cover_in_about_95_percent_of_the_sets():
    from scipy.stats import norm

    truth = norm.cdf(1 / np.sqrt(2))  # AUROC of two unit normals one apart
    covered = 0
    repetitions = 400
    for seed in range(repetitions):
        labels, scores = _scores(1000 + seed, 180)
        found = intervals(image_family(labels, scores, 0.5), np.arange(180), Resampling(400, 0.95, seed))["auroc"]
        covered += found["low"] <= truth <= found["high"]
    assert 0.92 <= covered / repetitions <= 0.975
