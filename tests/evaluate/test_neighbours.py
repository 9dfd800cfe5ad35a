"""AUROC of nearest neighbours against scikit-learn's search, group by group, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from ssl_defect.evaluate import neighbours
from ssl_defect.evaluate.neighbours import neighbour_auroc


def by_search(features, labels, groups, k=5):
    """For each image a search of scikit-learn's among the images of the other groups alone."""
    shares = []
    for row, group in zip(features, groups, strict=True):
        others = np.flatnonzero(groups != group)
        search = NearestNeighbors(n_neighbors=k, metric="cosine").fit(features[others])
        shares.append((labels[others[search.kneighbors([row])[1][0]]] > 0).mean())
    return roc_auc_score(labels > 0, shares)


@pytest.mark.parametrize("at_once", [7, 512])
def test_it_is_scikit_learns(monkeypatch, at_once):
    monkeypatch.setattr(neighbours, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 3, 60), rng.integers(0, 20, 60)
    features = (rng.normal(size=(60, 8)) + 0.6 * (labels > 0)[:, None]).astype(np.float32)
    found = neighbour_auroc(features, labels, groups)
    assert found == pytest.approx(by_search(features, labels, groups), abs=1e-12)
    assert 0.55 < found < 0.99


def test_by_hand_with_one_neighbour():
    angles = np.radians([0, 1, 40, 41, 80, 90])
    features = np.stack([np.cos(angles), np.sin(angles)], 1)
    labels, groups = np.array([0, 0, 1, 0, 1, 1]), np.arange(6)
    # nearest: 0->1 good, 1->0 good, 2->3 good, 3->2 bad, 4->5 bad, 5->4 bad
    # shares: good 0 0 1, bad 0 1 1 -> of nine pairs 4 won, 4 tied (two by 0, two by 1), 1 lost
    assert neighbour_auroc(features, labels, groups, k=1) == pytest.approx((4 + 4 / 2) / 9)


def test_near_copies_know_nothing_of_each_other():
    rng = np.random.default_rng(1)
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 6)
    features = np.repeat(rng.normal(size=(40, 16)), 6, axis=0) + 1e-3 * rng.normal(size=(240, 16))
    each, whole = (neighbour_auroc(features, labels, groups) for groups in (np.arange(240), np.arange(240) // 6))
    assert each == 1
    assert whole < 0.75
    assert neighbour_auroc(features, labels, np.full(240, -1)) == each  # not grouped: each its own


def test_the_length_of_a_feature_does_not_count():
    rng = np.random.default_rng(2)
    features, labels = rng.normal(size=(50, 4)), np.arange(50) % 2
    longer = features * rng.uniform(0.1, 10, (50, 1))
    assert neighbour_auroc(longer, labels, np.arange(50)) == neighbour_auroc(features, labels, np.arange(50))


def test_one_class_few_others_and_no_feature():
    features = np.random.default_rng(3).normal(size=(12, 4))
    labels, groups = np.arange(12) % 2, np.arange(12)
    assert neighbour_auroc(features, labels * 0, groups) is None
    assert neighbour_auroc(features, labels, np.array([0] * 8 + [1] * 4)) is None
    assert neighbour_auroc(features, labels, np.array([0] * 7 + [1] * 5)) is not None
    assert neighbour_auroc(features[:0], labels[:0], groups[:0]) is None
    assert 0 <= neighbour_auroc(features * 0, labels, groups) <= 1
