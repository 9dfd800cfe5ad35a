"""What a segmentation into classes is judged by: the overlap of each class, from counts of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.data.records import GOOD
from ssl_defect.evaluate.bootstrap import intervals
from ssl_defect.evaluate.metrics import Array, Family
from ssl_defect.evaluate.results import Results
from ssl_defect.nets.detector import Spec

NAMES = {"class_iou": "IoU", "class_dice": "Dice", "mean_iou": "mean IoU", "mean_defect_iou": "mean IoU of the defects"}


def measure(results: Results, spec: Spec) -> dict[str, Any] | None:
    """The block "task" of `metrics.json`; None for a segmentation without classes, or without masks.

    A pixel is defective where the map reaches its threshold, as everywhere, and then of its likeliest defect. Against
    the likeliest class of all, good would win nearly every pixel while the detector is unsure.
    """
    classes, maps = results.found.others.get("class_map"), results.found.maps
    if classes is None or maps is None or results.pixel is None or results.store.masks is None:
        return None
    number = {name: i for i, name in enumerate(spec.classes)}
    known = results.masked[results.split :] & np.array([name in number for name in results.defects])
    if not known.any():
        return None
    counts = np.zeros((int(known.sum()), len(number), len(number)), np.int64)
    for i, position in enumerate(np.flatnonzero(known)):
        truth = results.store.masks[results.test[position]] * number[results.defects[position]]
        place = results.split + position
        found = np.where(maps[place] >= results.pixel.value, classes[place], 0)
        counts[i] = count_classes(truth, found, len(number))
    left = len(known) - len(counts)
    groups = results.groups[known]
    return {
        "title": "Classes of pixels",
        "names": NAMES,
        "metrics": intervals(mean_family(counts), groups, results.spec),
        "classes": {name: intervals(class_family(counts, i), groups, results.spec) for name, i in number.items()},
        "note": _note(left),
    }


def count_classes(truth: Array, found: Array, classes: int) -> Array:
    """(K, K) numbers of pixels of one image: row = true class, column = class found; any equal shapes of numbers."""
    pairs = truth.astype(np.int64).ravel() * classes + found.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def overlaps(counts: Array) -> tuple[Array, Array]:
    """IoU and Dice (..., K) from counts (..., K, K); NaN for a class that no pixel has."""
    hit, true = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1)
    both = np.where(true > 0, true + counts.sum(axis=-2), np.nan)
    return hit / (both - hit), 2 * hit / both


def class_family(counts: Array, number: int) -> Family:
    """IoU and Dice of class `number` from the counts (n, K, K) of n images."""

    def family(weights: Array) -> dict[str, Array]:
        iou, dice = overlaps(_weighted(weights, counts))
        return {"class_iou": iou[:, number], "class_dice": dice[:, number]}

    return family


def mean_family(counts: Array) -> Family:
    """Mean IoU of the classes in the truth, with good and of the defects alone; NaN where a draw lacks one of them."""
    there = np.flatnonzero(counts.sum(axis=(0, 2)) > 0)

    def family(weights: Array) -> dict[str, Array]:
        iou, _ = overlaps(_weighted(weights, counts))
        defects = there[there > 0]
        none = np.full(len(weights), np.nan)
        return {
            "mean_iou": iou[:, there].mean(axis=1) if len(there) else none,
            "mean_defect_iou": iou[:, defects].mean(axis=1) if len(defects) else none,
        }

    return family


def _weighted(weights: Array, counts: Array) -> Array:
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    return (np.asarray(weights, np.float64) @ flat).reshape(-1, *counts.shape[1:])


def _note(left: int) -> str:
    means = f"The means are over the classes in the masks, {GOOD} among them."
    return means + (
        f" {left} test images without a mask, or of a class unknown in training, are left out." if left else ""
    )
