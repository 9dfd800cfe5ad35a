"""Pixel metrics of anomaly maps at full size: what scikit-learn and a plain AUPRO find on the same maps, to 1e-4.

The maps are what detectors make: small ones enlarged and smoothed, and then scores of whatever scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, roc_auc_score

from ssl_defect.evaluate.regions import count_pixels, pixel_family

SIZE, COUNT, LIMIT = 128, 16, 0.3
Drawing = Callable[[NDArray[np.uint8], np.random.Generator], None]


def discs(mask: NDArray[np.uint8], rng: np.random.Generator) -> None:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for _ in range(3):
        y, x = rng.integers(0, SIZE, 2)
        mask[(rows - y) ** 2 + (columns - x) ** 2 <= rng.integers(2, 15) ** 2] = 1


def single_pixels(mask: NDArray[np.uint8], rng: np.random.Generator) -> None:
    mask[tuple(rng.integers(0, SIZE, (2, 4)))] = 1


def corners_and_borders(mask: NDArray[np.uint8], rng: np.random.Generator) -> None:
    mask[0, 0] = mask[-1, -1] = mask[0, -3:] = 1
    start = rng.integers(10, SIZE - 20)
    mask[start : start + 8, :2] = 1
    mask[-1, start : start + 12] = 1


def scratches(mask: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """One pixel wide and slanted: connected over corners only."""
    start = rng.integers(0, SIZE // 2)
    places = np.arange(SIZE // 3)
    mask[start + places, places] = 1


DRAWINGS = {f.__name__: f for f in (discs, single_pixels, corners_and_borders, scratches)}


def scene(drawing: Drawing, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Distances at least 0 as a detector gives them, and masks of which every other one is empty."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((COUNT, SIZE, SIZE), np.uint8)
    for mask in masks[::2]:
        drawing(mask, rng)
    signal = ndimage.maximum_filter(masks, (1, 5, 5)).astype(float)[:, ::8, ::8]
    small = 2 + rng.gamma(2, 0.5, signal.shape) + 1.5 * signal
    large = np.stack([ndimage.zoom(each, 8, order=1, grid_mode=True, mode="nearest") for each in small])
    return ndimage.gaussian_filter(large, (0, 2, 2)).astype(np.float32), masks


def plain_aupro(maps: NDArray[np.float32], masks: NDArray[np.uint8]) -> float:
    """Bergmann et al. 2021: at every threshold the mean overlap of all regions, against the false-positive rate."""
    good = np.sort(maps[masks == 0])
    inside = []
    for each, mask in zip(maps, masks, strict=True):
        labels, number = ndimage.label(mask, structure=np.ones((3, 3)))
        inside += [np.sort(each[labels == region]) for region in range(1, number + 1)]
    levels = np.unique(maps)[::-1]
    below = np.searchsorted(good, levels)
    x = np.append(0, (len(good) - below) / len(good))
    overlaps = sum((len(region) - np.searchsorted(region, levels)) / len(region) for region in inside)
    y = np.append(0, overlaps / len(inside))
    last = int(np.searchsorted(x, LIMIT, side="right"))
    return float(trapezoid(np.append(y[:last], np.interp(LIMIT, x, y)), np.append(x[:last], LIMIT)) / LIMIT)


def squashed(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    return (1 / (1 + (4 / maps) ** 4)).astype(np.float32)


def bytes_of(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """As they are kept beside a run: 256 values, so that most pixels are tied."""
    return np.round(squashed(maps) * 255).astype(np.float32)


SCALES = {"distances": lambda maps: maps, "squashed": squashed, "bytes": bytes_of}


def ours(maps: NDArray[np.float32], masks: NDArray[np.uint8]) -> dict[str, float]:
    found = pixel_family(count_pixels(maps, masks), 0.5, LIMIT)(np.ones((1, len(maps))))
    return {name: float(found[name][0]) for name in ("auroc", "ap", "aupro")}


@pytest.mark.parametrize("scale", list(SCALES))
@pytest.mark.parametrize("drawing", list(DRAWINGS))
def test_pixel_metrics_are_those_of_the_references(drawing: str, scale: str) -> None:
    distances, masks = scene(DRAWINGS[drawing])
    maps = SCALES[scale](distances)
    expected = {
        "auroc": float(roc_auc_score(masks.ravel(), maps.ravel())),
        "ap": float(average_precision_score(masks.ravel(), maps.ravel())),
        "aupro": plain_aupro(maps, masks),
    }
    assert 0.1 < expected["aupro"] < 0.999
    assert ours(maps, masks) == pytest.approx(expected, abs=1e-4)


def test_a_defect_of_one_pixel_in_a_corner_is_worth_as_much_as_a_large_one() -> None:
    """Half the regions are found before any good pixel and half after all that count: an AUPRO of one half."""
    masks = np.zeros((2, SIZE, SIZE), np.uint8)
    masks[0, 0, 0] = 1
    masks[1, 20:60, 20:60] = 1
    maps = np.random.default_rng(0).uniform(0.2, 0.8, masks.shape).astype(np.float32)
    maps[0, 0, 0], maps[1, 20:60, 20:60] = 1.0, 0.0
    found = ours(maps, masks)
    assert found["aupro"] == pytest.approx(0.5, abs=1e-4)
    assert found["aupro"] == pytest.approx(plain_aupro(maps, masks), abs=1e-4)


def test_images_without_defects_count_as_false_positives() -> None:
    """Good images whose maps are above all else push every region behind the limit."""
    maps, masks = scene(discs)
    bright = np.concatenate([maps, np.full_like(maps, 99.0)])
    both = np.concatenate([masks, np.zeros_like(masks)])
    assert ours(bright, both)["aupro"] == pytest.approx(plain_aupro(bright, both), abs=1e-4)
    assert ours(bright, both)["aupro"] < 0.05 < ours(maps, masks)["aupro"]
