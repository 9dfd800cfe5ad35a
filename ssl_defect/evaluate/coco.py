"""COCO's measures of boxes and masks, with weights for a bootstrap: equal to pycocotools where all weights are 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssl_defect.evaluate.metrics import Array, Family
from ssl_defect.nets.detection.matching import (
    EVERY_AREA,
    THRESHOLDS,
    Matches,
    Picture,
    average_precision,
    match_class,
    most_recall,
)

AREAS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # pixels
NAMES = {
    "AP": "AP, mean over overlaps of 0.50 to 0.95",
    "AP50": "AP at an overlap of 0.50",
    "AP75": "AP at an overlap of 0.75",
    "AR": "recall of at most 100 detections, mean over overlaps of 0.50 to 0.95",
}


def coco_metrics(pictures: Sequence[Picture], areas: bool = False) -> dict[str, float]:
    """ "AP", "AP50", "AP75" and "AR" of all classes that the pictures' defects have; NaN without defects.

    Args:
        areas: give "AP_small", "AP_medium", "AP_large" and the same of AR as well.
    """
    ones = np.ones((1, len(pictures)))
    found = {name: float(value[0]) for name, value in coco_family(match_all(pictures))(ones).items()}
    for name, area in AREAS.items() if areas else ():
        part = coco_family(match_all(pictures, area))(ones)
        found |= {f"{metric}_{name}": float(part[metric][0]) for metric in ("AP", "AR")}
    return found


def match_all(pictures: Sequence[Picture], area: tuple[float, float] = EVERY_AREA) -> dict[int, Matches]:
    """Class number -> its matches, for all classes of the pictures' defects."""
    numbers = np.unique(np.concatenate([[], *(picture.true_classes for picture in pictures)]))
    return {int(number): match_class(pictures, int(number), THRESHOLDS, area) for number in numbers}


def coco_family(matches: dict[int, Matches]) -> Family:
    """The measures as a function of the pictures' weights (D, P): means over the classes that a draw has defects of."""

    def family(weights: Array) -> dict[str, Array]:
        if not matches:
            return {name: np.full(len(weights), np.nan) for name in NAMES}
        precision = np.stack([average_precision(part, weights) for part in matches.values()])  # (K, D, T)
        recall = np.stack([most_recall(part, weights) for part in matches.values()])
        return {
            "AP": _mean(precision.mean(axis=2)),
            "AP50": _mean(precision[:, :, 0]),
            "AP75": _mean(precision[:, :, 5]),
            "AR": _mean(recall.mean(axis=2)),
        }

    return family


def _mean(values: Array) -> Array:
    """Mean over the first axis without NaN; NaN where all are."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    mean: Array = np.divide(
        np.where(known, values, 0).sum(axis=0), count, out=np.full(values.shape[1:], np.nan), where=count > 0
    )
    return mean
