"""Pixel metrics: by hand on a drawn grid, by brute force over all thresholds, and against scikit-learn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, roc_auc_score

from ssl_defect.errors import UserError
from ssl_defect.evaluate import regions

EIGHT = np.ones((3, 3))


def _metrics(maps, masks, threshold=0.5, limit=0.3):
    counts = regions.count_pixels(maps, masks, threshold)
    found = regions.pixel_family(counts, threshold, limit)(np.ones((1, len(maps))))
    return {name: float(value[0]) for name, value in found.items()}


def _brute_aupro(maps, masks, limit):
    """Every threshold in turn, every region in turn, straight from the definition."""
    points = [(0.0, 0.0)]
    good = masks == 0
    for level in np.unique(maps)[::-1]:
        called = maps >= level
        overlaps = []
        for each, mask in zip(called, masks, strict=True):
            labels, number = ndimage.label(mask, structure=EIGHT)
            overlaps += [each[labels == region].mean() for region in range(1, number + 1)]
        points.append((called[good].mean(), np.mean(overlaps)))
    x, y = np.array(points).T
    grid = np.unique(np.append(x[x < limit], limit))
    # at a vertical step the upper end closes one piece and opens the next
    area = 0.0
    for left, right in pairwise(grid):
        first = y[x <= left][-1]
        after = np.flatnonzero(x > left)[0]
        slope = (y[after] - first) / (x[after] - left) if x[after] > left else 0.0
        area += (right - left) * (first + slope * (right - left) / 2)
    return area / limit


def _scene(seed, count=24, size=64):
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, size, size), np.uint8)
    rows, columns = np.mgrid[:size, :size]
    for image in range(count // 2):
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, size, 2)
            masks[image] |= ((rows - y) ** 2 + (columns - x) ** 2 <= rng.integers(1, 9) ** 2).astype(np.uint8)
    noise = ndimage.gaussian_filter(rng.normal(size=masks.shape), (0, 2, 2))
    signal = np.stack([ndimage.gaussian_filter(mask.astype(float), 2) for mask in masks])
    return 3 * signal + noise / noise.std(), masks


def _sigmoid(values):
    return (1 / (1 + np.exp(-values))).astype(np.float32)


def test_a_hand_drawn_grid():
    masks = np.array([[[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]], np.uint8)
    maps = np.array([[[0.9, 0.2, 0.0, 0.0, 0.0], [0.8, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.7]]])
    # 12 good pixels, one of them at 0.8; regions of 2 pixels and of 1:
    # 0.9: PRO (1/2 + 0)/2 = 1/4, FPR 0; 0.8: 1/4 at 1/12; 0.7: (1/2 + 1)/2 = 3/4 at 1/12; 0.2: 1 at 1/12; 0: 1 at 1
    area = 1 / 12 * 1 / 4 + (0.3 - 1 / 12) * 1.0
    found = _metrics(maps, masks)
    assert found["aupro"] == pytest.approx(area / 0.3, abs=1e-6)
    assert found["iou"] == pytest.approx(2 / (3 + 1))
    assert found["dice"] == pytest.approx(2 * 2 / (3 + 3))


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [3, 17, 200])
def test_few_values_are_exact_against_brute_force(limit, levels):
    maps, masks = _scene(levels, count=6, size=24)
    maps = np.round(_sigmoid(maps) * levels).astype(np.float32) / levels
    found = _metrics(maps, masks, limit=limit)
    assert found["aupro"] == pytest.approx(_brute_aupro(maps, masks, limit), abs=1e-6)
    assert found["auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert found["ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-9)


@pytest.mark.parametrize("shape", ["plain", "saturated", "chance", "inverted", "cut at zero", "unbounded"])
def test_continuous_maps_agree_to_1e_4(shape):
    values, masks = _scene(5, count=30, size=96)
    maps = {
        "plain": _sigmoid(4 * values - 6),
        "saturated": _sigmoid(40 * values - 60),
        "chance": _sigmoid(np.random.default_rng(1).normal(size=values.shape)),
        "inverted": _sigmoid(-4 * values),
        "cut at zero": np.maximum(values - 1, 0).astype(np.float32),
        "unbounded": (values**3 * 1e4).astype(np.float32),
    }[shape]
    found = _metrics(maps, masks)
    assert found["auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-4)
    assert found["ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-4)
    assert found["aupro"] == pytest.approx(_fast_aupro(maps, masks, 0.3), abs=1e-4)
    called, bad = maps >= 0.5, masks > 0
    assert found["iou"] == pytest.approx((called & bad).sum() / (called | bad).sum(), abs=1e-9)


def _fast_aupro(maps, masks, limit):
    share, number = np.zeros(masks.shape), 0
    for row, mask in zip(share, masks, strict=True):
        labels, found = ndimage.label(mask, structure=EIGHT)
        sizes = np.bincount(labels.ravel())
        row[labels > 0] = 1 / sizes[labels[labels > 0]]
        number += found
    order = np.argsort(-maps.ravel(), kind="stable")
    falling = maps.ravel()[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    x = np.append(0, np.cumsum(masks.ravel()[order] == 0)[ends]) / (masks == 0).sum()
    y = np.append(0, np.cumsum(share.ravel()[order])[ends]) / number
    inside = x < limit
    height = np.interp(limit, x, y)
    return trapezoid(np.append(y[inside], height), np.append(x[inside], limit)) / limit


def test_diagonal_neighbours_are_one_region():
    mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.uint8)
    assert regions.count_pixels(mask[None].astype(np.float32), mask[None]).regions.tolist() == [1]


def test_a_one_pixel_defect_at_the_border_weighs_as_much_as_a_large_one():
    masks = np.zeros((2, 16, 16), np.uint8)
    masks[0, 15, 15] = 1
    masks[1, 2:10, 2:10] = 1
    maps = np.zeros(masks.shape, np.float32)
    maps[0, 15, 15] = 1.0
    # one region found at once, the other only with everything: PRO = 1/2 rising to 1 along the last piece
    expected = 0.5 + 0.5 * 0.3 / 2
    assert _metrics(maps, masks)["aupro"] == pytest.approx(expected, abs=1e-6)


def test_a_constant_map_is_chance():
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, :2] = 1
    found = _metrics(np.full(masks.shape, 0.25, np.float32), masks)
    assert found["auroc"] == 0.5
    assert found["aupro"] == pytest.approx(0.15)
    assert found["ap"] == pytest.approx(16 / 128)
    assert found["iou"] == 0


def test_a_perfect_map_is_perfect():
    _, masks = _scene(2)
    found = _metrics(masks.astype(np.float32), masks)
    assert found == pytest.approx(dict.fromkeys(found, 1.0), abs=1e-6)


def test_empty_masks_leave_pixel_metrics_undefined_but_no_error():
    found = _metrics(np.random.default_rng(0).random((3, 8, 8)), np.zeros((3, 8, 8), np.uint8))
    assert all(np.isnan(found[name]) for name in ("auroc", "ap", "aupro"))


def test_no_maps_at_all():
    found = _metrics(np.zeros((0, 8, 8), np.float32), np.zeros((0, 8, 8), np.uint8))
    assert all(np.isnan(value) for value in found.values())


def test_weights_equal_repeated_images():
    values, masks = _scene(7, count=12, size=48)
    maps = np.round(_sigmoid(values), 2)
    weights = np.random.default_rng(0).integers(0, 3, len(maps))
    counts = regions.count_pixels(maps, masks, 0.5)
    weighted = regions.pixel_family(counts, 0.5, 0.3)(weights[None].astype(float))
    repeated = _metrics(np.repeat(maps, weights, axis=0), np.repeat(masks, weights, axis=0))
    assert {name: value[0] for name, value in weighted.items()} == pytest.approx(repeated, abs=1e-6)


def test_a_part_of_the_images_alone():
    values, masks = _scene(8, count=12, size=48)
    maps = np.round(_sigmoid(values), 2)
    part = np.array([11, 2, 4, 9])
    counts = regions.take(regions.count_pixels(maps, masks, 0.5), part)
    found = regions.pixel_family(counts, 0.5, 0.3)(np.ones((1, 4)))
    assert {name: value[0] for name, value in found.items()} == pytest.approx(
        _metrics(maps[part], masks[part]), abs=1e-6
    )


def test_nan_in_a_map_is_refused_by_name():
    maps = np.zeros((2, 8, 8), np.float32)
    maps[1, 3, 3] = np.nan
    with pytest.raises(UserError, match=r"part 2\.png: the map holds NaN"):
        regions.count_pixels(maps, np.zeros((2, 8, 8), np.uint8), names=["part 1.png", "part 2.png"])


def test_the_pro_curve_has_the_area_that_is_reported():
    values, masks = _scene(9)
    maps = _sigmoid(values)
    counts = regions.count_pixels(maps, masks)
    curve = regions.pro_curve(counts)
    assert curve is not None
    assert len(curve["fpr"]) <= 401
    x, y = np.array(curve["fpr"]), np.array(curve["pro"])
    fine = np.linspace(0, 0.3, 100_001)
    assert np.interp(fine, x, y).mean() == pytest.approx(_metrics(maps, masks)["aupro"], abs=2e-3)
