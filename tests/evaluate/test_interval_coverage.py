"""The study of coverage on few sets: its truths hold, its tally counts, and intervals over groups cover as they say."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ssl_defect.evaluate import delong

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
import coverage_models
from coverage_models import Maps, Scores
from interval_coverage import Row, rows, table_rows, tally


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_truth_is_that_of_a_large_set(shift):
    model = Scores(1.2)
    labels, (scores,), _ = model.sample(np.random.default_rng(0), 80_000, [shift])
    truth = model.truth(shift)
    assert truth["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=0.004)
    assert truth["ap"] == pytest.approx(average_precision_score(labels, scores), abs=0.008)
    assert truth["f1"] == pytest.approx(f1_score(labels, scores >= model.threshold), abs=0.006)


def test_the_truth_of_maps_is_that_of_other_large_sets(monkeypatch):
    monkeypatch.setattr(coverage_models, "PARTS", 2)
    monkeypatch.setattr(coverage_models, "MANY", 800)
    truth, model = Maps(3.0).truth(), Maps(3.0)
    (family,), groups, _ = model.families(np.random.default_rng(5), 1600, [0.0])
    other = {name: value[0] for name, value in family(np.ones((1, len(groups)))).items()}
    assert truth == pytest.approx(other, abs=0.03)


def test_the_truth_over_seeds_is_the_mean_of_their_truths():
    row = Row(Scores(1.6), ("auroc",), 0.4, 3, 0.6)
    shifts = 0.6 * np.random.default_rng(0).normal(size=4000)
    wanted = np.mean([row.model.truth(0.4 + s)["auroc"] - row.model.truth(s)["auroc"] for s in shifts[:400]])
    assert row.truth()["auroc"] == pytest.approx(wanted, abs=0.003)


def test_the_tally_counts_both_sides():
    found = tally(0.5, np.array([[0.1, 0.4], [0.4, 0.6], [0.5, 0.7], [0.6, 0.9], [0.55, 0.65]]))
    assert (found["held"], found["under"], found["over"]) == (pytest.approx(0.4), 1, 2)
    assert found["width"] == pytest.approx(0.22)


@pytest.mark.parametrize("name", ["image, good", "image pair, none", "3 seeds (0.6)", "3 seeds (0.6), pair"])
def test_intervals_cover_in_two_hundred_sets(name):
    """95% less 3 standard errors; over-coverage is what few seeds are given."""
    row = rows()[name]
    truth = row.truth()
    sets = [row.measure(40, 0, seed) for seed in range(200)]
    for metric in row.metrics:
        held = tally(truth[metric], np.array([one[metric]["used"] for one in sets if metric in one]))["held"]
        assert held >= 0.905, metric


def test_intervals_over_images_do_not_cover():
    truth, ends = Scores(1.2).truth()["auroc"], []
    for seed in range(200):
        labels, (scores,), groups = Scores(1.2).sample(np.random.default_rng([7, seed]), 60, [0.0])
        found = delong.interval(labels, scores + 2 * np.random.default_rng(seed).normal(size=60)[groups])
        ends.append((found["low"], found["high"]))
    truth = 0.5 + (truth - 0.5) * 0.5
    assert tally(np.mean(ends), np.array(ends))["held"] < 0.9


def test_rows_done_before_are_read(tmp_path):
    options = Namespace(sets=3, draws=50, groups=20, out=tmp_path)
    first = table_rows("image, good", rows()["image, good"], options)
    assert len(first) == 3
    (kept,) = tmp_path.iterdir()
    kept.write_text(json.dumps(["| kept |"]))
    assert table_rows("image, good", rows()["image, good"], options) == ["| kept |"]
