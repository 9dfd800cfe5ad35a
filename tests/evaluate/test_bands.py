"""Bands of curves against hand-made counts and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from ssl_defect.evaluate.bands import GRID, bands, heights, pixel_bands, precisions
from ssl_defect.evaluate.bootstrap import Resampling, weights_in_chunks
from ssl_defect.evaluate.metrics import counts_at_levels
from ssl_defect.evaluate.regions import count_pixels, pro_curve


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


def test_pixel_bands_of_pictures_of_one_pixel_are_those_of_images() -> None:
    labels, scores = drawn(80)
    groups, spec = np.arange(80) // 2, Resampling(draws=200)
    maps = scores[:, None, None].astype(np.float32)
    counts = count_pixels(maps, labels[:, None, None])
    found, wanted = pixel_bands(counts, groups, spec, 0.5), bands(labels, maps[:, 0, 0], groups, spec)
    assert found is not None
    assert wanted is not None
    assert found["pixel_roc"] == wanted["roc"]
    assert found["pixel_pr"] == wanted["pr"]
    assert found["pro"]["fpr"][-1] == 0.5
    for end in ("low", "high"):  # every region is one pixel, so that the overlap is the true-positive rate
        assert found["pro"][end][::2] == wanted["roc"][end][:51]


def test_the_band_of_overlap_is_the_spread_of_drawn_sets() -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((8, 6, 6)).astype(np.float32), np.zeros((8, 6, 6), int)
    masks[::2, 1:3, 1:3], masks[::4, 5, :2] = 1, 1  # one region or two of unequal size
    maps += 0.4 * masks
    groups, spec = np.arange(8) // 2, Resampling(draws=30)
    found = pixel_bands(count_pixels(maps, masks), groups, spec, 0.3)
    curves = []
    for weights in weights_in_chunks(groups, spec):
        for one in weights.astype(int):
            curve = pro_curve(count_pixels(np.repeat(maps, one, 0), np.repeat(masks, one, 0)))
            if curve is not None:
                curves.append(np.interp(GRID * 0.3, curve["fpr"], curve["pro"]))
    assert found is not None
    assert len(curves) == 30
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    assert found["pro"]["low"] == pytest.approx(low, abs=2e-6)
    assert found["pro"]["high"] == pytest.approx(high, abs=2e-6)
    assert (high - low).max() > 0.05


def test_without_groups_or_regions_there_is_no_pixel_band() -> None:
    maps, masks = np.random.default_rng(0).random((6, 4, 4)).astype(np.float32), np.zeros((6, 4, 4), int)
    assert pixel_bands(count_pixels(maps, masks), np.arange(6), Resampling(draws=20), 0.3) is None
    masks[0, 0, 0] = 1  # in one image alone: missing from about a third of the draws
    assert pixel_bands(count_pixels(maps, masks), np.arange(6), Resampling(draws=200), 0.3) is None
    masks[:, 0, 0] = 1
    assert pixel_bands(count_pixels(maps, masks), np.zeros(6), Resampling(draws=20), 0.3) is None
    assert pixel_bands(count_pixels(maps, masks), np.arange(6), Resampling(draws=20), 0.3) is not None
