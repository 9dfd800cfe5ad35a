"""Image metrics against scikit-learn, by hand, and under what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import trapezoid
from sklearn import metrics as reference

from ssl_defect.evaluate import metrics


def _one(labels, scores, threshold=0.5):
    family = metrics.image_family(np.array(labels), np.array(scores, float), threshold)
    return {name: float(value[0]) for name, value in family(np.ones((1, len(labels)))).items()}


@st.composite
def _sets(draw):
    count = draw(st.integers(2, 40))
    labels = draw(arrays(np.int64, count, elements=st.integers(0, 1)))
    labels[:2] = [0, 1]
    return labels, draw(arrays(np.int64, count, elements=st.integers(0, 12))) / 12  # with ties


@settings(deadline=None)
@given(_sets())
def test_all_equal_scikit_learn(pair):
    labels, scores = pair
    found, called = _one(labels, scores), scores >= 0.5
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert found["ap"] == pytest.approx(reference.average_precision_score(labels, scores), abs=1e-12)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, called))
    assert found["recall"] == pytest.approx(reference.recall_score(labels, called))
    assert found["f1"] == pytest.approx(reference.f1_score(labels, called))
    if called.any():
        assert found["precision"] == pytest.approx(reference.precision_score(labels, called))
    else:
        assert np.isnan(found["precision"])


@settings(deadline=None)
@given(_sets())
def test_confusion_is_scikit_learns_and_sums_to_the_set(pair):
    labels, scores = pair
    cells = metrics.confusion(labels, scores, 0.5)
    assert list(cells.values()) == reference.confusion_matrix(labels, scores >= 0.5, labels=[0, 1]).ravel().tolist()
    assert sum(cells.values()) == len(labels)


@settings(deadline=None)
@given(_sets())
def test_ranking_metrics_do_not_change_under_a_monotone_transform(pair):
    labels, scores = pair
    before, after = _one(labels, scores), _one(labels, np.exp(3 * scores) - 7)
    assert after["auroc"] == pytest.approx(before["auroc"], abs=1e-12)
    assert after["ap"] == pytest.approx(before["ap"], abs=1e-12)


@settings(deadline=None)
@given(_sets(), st.integers(0, 1000))
def test_weights_equal_repeated_images(pair, seed):
    labels, scores = pair
    weights = np.random.default_rng(seed).integers(0, 4, len(labels))
    weights[:2] = 1
    weighted = metrics.image_family(labels, scores, 0.5)(weights[None].astype(float))
    repeated = _one(np.repeat(labels, weights), np.repeat(scores, weights))
    for name, value in repeated.items():
        assert weighted[name][0] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_the_textbook_example():
    found = _one([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    assert found["auroc"] == 0.75
    assert found["ap"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert found["precision"] == 1
    assert found["recall"] == 0.5


def test_constant_scores_rank_by_chance():
    found = _one([0, 0, 0, 1], [0.3] * 4)
    assert found["auroc"] == 0.5
    assert found["ap"] == 0.25
    assert np.isnan(found["precision"])
    assert found["f1"] == 0


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_alone_has_no_ranking(labels):
    found = _one(labels, np.linspace(0, 1, len(labels)))
    assert np.isnan(found["auroc"])
    assert np.isnan(found["ap"])


def test_curves_are_scikit_learns_and_stay_short():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 5000)
    scores = rng.normal(labels, 1.0)
    counts = metrics.counts_at_levels(labels, scores)
    roc, pr = metrics.roc_curve(*counts), metrics.pr_curve(*counts)
    assert roc is not None
    assert pr is not None
    fpr, tpr, thresholds = reference.roc_curve(labels, scores, drop_intermediate=False)
    at = np.searchsorted(-thresholds, [-value for value in roc["threshold"][1:]])
    assert np.allclose(roc["fpr"][1:], fpr[at], atol=1e-6)
    assert np.allclose(roc["tpr"][1:], tpr[at], atol=1e-6)
    assert len(roc["fpr"]) <= metrics.CURVE_POINTS + 1
    assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)
    assert trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-3)
    assert len(pr["recall"]) == len(pr["precision"]) == len(pr["threshold"])
    called = scores >= pr["threshold"][200]
    assert pr["precision"][200] == pytest.approx(reference.precision_score(labels, called), abs=1e-6)


def test_class_matrix_counts_rows_as_truth():
    matrix = metrics.class_matrix(["good", "crack", "spot"], ["good", "good", "crack"], ["good", "spot", "crack"])
    assert matrix == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
