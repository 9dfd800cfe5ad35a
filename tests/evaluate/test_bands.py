"""Bands of curves against hand-made counts and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from ssl_defect.evaluate.bands import GRID, bands, heights, precisions
from ssl_defect.evaluate.bootstrap import Resampling
from ssl_defect.evaluate.metrics import counts_at_levels


def drawn(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    return labels, rng.normal(1.5 * labels, 1)


def test_heights_are_those_of_scikit_learn() -> None:
    labels, scores = drawn(60)
    tp, fp, _ = counts_at_levels(labels, scores)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert heights(tp, fp) == pytest.approx(np.interp(GRID, fpr, tpr))


def test_precision_is_that_of_the_first_level_to_reach_a_recall() -> None:
    tp, fp = np.array([0.0, 1, 1, 2]), np.array([0.0, 1, 2, 2])
    found = precisions(tp, fp)
    assert found[[0, 50, 51, 100]].tolist() == [0.5, 0.5, 0.5, 0.5]
    found = precisions(np.array([1.0, 1, 2]), np.array([0.0, 1, 2]))
    assert found[[0, 50, 51, 100]].tolist() == [1.0, 1.0, 0.5, 0.5]


def test_bands_cover_the_true_curve_about_as_often_as_they_say() -> None:
    from scipy.stats import norm

    spec = Resampling(draws=200)
    true = norm.sf(norm.isf(0.2) - 1.5)
    inside = 0
    for seed in range(60):
        labels, scores = drawn(200, seed)
        found = bands(labels, scores, np.arange(200), spec)
        assert found is not None
        inside += found["roc"]["low"][20] <= true <= found["roc"]["high"][20]
    assert 51 <= inside <= 60  # 57 expected of 60; below 51 has a chance under 1%


def test_copies_make_a_band_wider() -> None:
    labels, scores = drawn(100)
    spec = Resampling(draws=300)
    alone = bands(labels, scores, np.arange(100), spec)
    tripled = bands(np.repeat(labels, 3), np.repeat(scores, 3), np.repeat(np.arange(100), 3), spec)
    assert alone is not None
    assert tripled is not None
    for name in ("roc", "pr"):
        widths = [np.subtract(one[name]["high"], one[name]["low"]).mean() for one in (alone, tripled)]
        assert widths[1] == pytest.approx(widths[0], rel=0.05)  # and not a factor of 0.58, as by single images


def test_without_groups_or_classes_there_is_no_band() -> None:
    labels, scores = drawn(20)
    assert bands(labels, scores, np.zeros(20, int), Resampling(draws=50)) is None
    assert bands(np.zeros(20, int), scores, np.arange(20), Resampling(draws=50)) is None
