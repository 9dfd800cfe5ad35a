"""The study of coverage on few sets: its truths hold, its tally counts, and intervals over groups cover as they say."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ssl_defect.evaluate import delong

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
import interval_coverage as coverage
from interval_coverage import METHODS, Drawn, Maps, Scores, measure, on_logits, percentile, tally


def test_the_truth_is_that_of_a_large_set():
    model = Scores(1.2)
    labels, scores, _ = model.sample(np.random.default_rng(0), 80_000)
    truth = model.truth()
    assert truth["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=0.004)
    assert truth["ap"] == pytest.approx(average_precision_score(labels, scores), abs=0.008)
    assert truth["f1"] == pytest.approx(f1_score(labels, scores >= model.threshold), abs=0.006)


def test_the_truth_of_maps_is_that_of_other_large_sets(monkeypatch):
    monkeypatch.setattr(coverage, "MANY", 4000)
    truth, model = Maps(3.0).truth(), Maps(3.0)
    family, groups, _ = model.family(np.random.default_rng(5), 1600)
    other = {name: value[0] for name, value in family(np.ones((1, len(groups)))).items()}
    assert truth == pytest.approx(other, abs=0.03)


def test_the_tally_counts_both_sides():
    found = tally(0.5, np.array([[0.1, 0.4], [0.4, 0.6], [0.5, 0.7], [0.6, 0.9], [0.55, 0.65]]))
    assert (found["held"], found["under"], found["over"]) == (pytest.approx(0.4), 1, 2)
    assert found["width"] == pytest.approx(0.22)


def test_every_method_is_about_the_percentile_where_all_is_normal():
    rng = np.random.default_rng(0)
    one = Drawn(0.5, 0.5 + 0.01 * rng.normal(size=200_000), 0.5 + 0.001 * rng.normal(size=400))
    plain = percentile(one)
    assert plain == pytest.approx((0.4804, 0.5196), abs=3e-4)
    for name, method in METHODS.items():
        assert method(one) == pytest.approx(plain, abs=4e-4), name
    near = on_logits(Drawn(0.99, np.clip(0.99 + 0.01 * rng.normal(size=1000), 0, 1), np.ones(50)))
    assert 0 < near[0] < 0.99 < near[1] < 1


def test_intervals_over_groups_cover_and_those_over_images_do_not():
    """Two hundred sets: 95% less or more 3 standard errors; images of a group share half of their noise."""
    sets = [measure("image, moderate", 60, 200, seed)["auroc"] for seed in range(200)]
    truth = Scores(1.2).truth()["auroc"]
    for name, least in (("used", 0.89), ("logit", 0.9), ("DeLong, logit", 0.9)):
        held = tally(truth, np.array([one[name] for one in sets]))["held"]
        assert least <= held <= 0.995, name
    ends = []
    for seed in range(200):
        labels, scores, _ = Scores(1.2, 0.95).sample(np.random.default_rng([7, seed]), 60)
        found = delong.interval(labels, scores)
        ends.append((found["low"], found["high"]))
    assert tally(truth, np.array(ends))["held"] < 0.88
