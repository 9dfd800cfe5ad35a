"""Intervals: they hold the value, follow the seed, take groups as units, and cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssl_defect.evaluate.bootstrap import Resampling, draw, intervals, paired_difference, weights_in_chunks
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
    labels, scores = _scores(1)
    family = image_family(labels, scores, 0.5)
    first, again = (intervals(family, np.arange(200), SPEC) for _ in range(2))
    assert first == again
    assert first != intervals(family, np.arange(200), Resampling(400, 0.95, 1))


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


def test_a_class_in_one_group_has_no_interval_and_in_few_groups_counts_its_dropped_draws():
    scores = np.linspace(0, 1, 50)
    one = intervals(image_family(np.arange(50) == 49, scores, 0.5), np.arange(50), SPEC)["auroc"]
    assert one["value"] == 1
    assert one["low"] is None
    assert "draws leave it undefined" in one["why"]
    three = intervals(image_family(np.arange(50) >= 47, scores, 0.5), np.arange(50), SPEC)["auroc"]
    assert three["low"] == three["high"] == 1
    assert 0 < three["dropped"] < 60  # (1 - 3/50)^50 = 4.5% of 400 draws expected


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
