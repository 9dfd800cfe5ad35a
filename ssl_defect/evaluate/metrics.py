"""Ranking and threshold metrics from cumulative counts: arrays in, plain numbers out, any number of draws at once.

Everything is computed from `tp` and `fp`, the (weighted) numbers of defective and good items at or above each
of B descending score levels, of shape (..., B); the last level takes in every item. A bootstrap draw is only
another weighting of the same items, so that a leading axis of draws costs one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Family = Callable[[Array], dict[str, Array]]
"""Weights (D, n) of n images in D draws to named metrics, each (D,); NaN where a draw leaves one undefined."""

CURVE_POINTS = 400
WHY = {
    "auroc": "needs both good and defective items",
    "ap": "needs both good and defective items",
    "aupro": "needs both good pixels and defective regions",
    "precision": "nothing was called defective",
    "recall": "nothing is defective",
    "f1": "nothing is defective or called so",
    "iou": "nothing is defective or called so",
    "dice": "nothing is defective or called so",
    "accuracy": "no items",
}


def divide(above: Array, below: Array) -> Array:
    """`above / below` in float64, NaN where `below` is zero."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    quotient: Array = np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
    return quotient


def from_origin(counts: Array) -> Array:
    """(..., B) counts with a zero put before them: the point above the highest level."""
    return np.concatenate([np.zeros_like(counts[..., :1]), counts], axis=-1)


def auroc(tp: Array, fp: Array) -> Array:
    """Area under the ROC curve by trapezoids, ties counted half; NaN where one class is missing."""
    height = from_origin(tp)
    area = np.einsum("...b,...b->...", np.diff(from_origin(fp)), (height[..., 1:] + height[..., :-1]) / 2)
    return divide(area, np.asarray(tp[..., -1], np.float64) * fp[..., -1])


def average_precision(tp: Array, fp: Array, tied: Array | None = None) -> Array:
    """Average precision, sum of (recall step) x (precision at its end), as scikit-learn; NaN where a class is missing.

    Args:
        tied: (B,) bool, True where every item between a level and the next higher one has the same score. Other
            levels are bins of a histogram, over which precision is taken to change linearly. All tied by default.
    """
    called = tp + fp
    precision = np.divide(tp, called, out=np.zeros(np.shape(called)), where=called > 0, dtype=np.float64)
    if tied is not None and not tied.all():
        before = np.where(called[..., :-1] > 0, precision[..., :-1], precision[..., 1:])
        smooth = (precision[..., 1:] + before) / 2
        precision[..., 1:] = np.where(tied[1:], precision[..., 1:], smooth)
    area = np.einsum("...b,...b->...", np.diff(from_origin(tp)), precision)
    return np.where(fp[..., -1] > 0, divide(area, tp[..., -1]), np.nan)


def rates(tn: Array, fp: Array, fn: Array, tp: Array) -> dict[str, Array]:
    """Precision, recall, F1 and accuracy from counts of any shape; NaN where the denominator is zero."""
    return {
        "precision": divide(tp, tp + fp),
        "recall": divide(tp, tp + fn),
        "f1": divide(2 * tp, 2 * tp + fp + fn),
        "accuracy": divide(tp + tn, tp + tn + fp + fn),
    }


def levels_of(scores: Array) -> tuple[Array, Array, Array]:
    """Order of falling scores, index of the last item of each tie in that order, and the distinct scores (B,)."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    return order, ends, falling[ends]


def counts_at_levels(labels: Array, scores: Array, weights: Array | None = None) -> tuple[Array, Array, Array]:
    """`tp`, `fp` of shape (D, B) (or (B,) without weights) and the B distinct scores, descending.

    Args:
        labels: (n,) 0 good, 1 defective.
        scores: (n,) higher is more defective.
        weights: (D, n) how often each image is drawn.
    """
    order, ends, levels = levels_of(scores)
    ordered = np.ones(len(scores)) if weights is None else weights[:, order]
    bad = labels[order] > 0
    tp = np.cumsum(np.where(bad, ordered, 0), axis=-1, dtype=np.float64)[..., ends]
    fp = np.cumsum(np.where(bad, 0, ordered), axis=-1, dtype=np.float64)[..., ends]
    return tp, fp, levels


def image_family(labels: Array, scores: Array, threshold: float) -> Family:
    """Metrics of image scores as a function of the images' weights: AUROC, AP and those at `score >= threshold`."""
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    bad, called = labels > 0, scores >= threshold
    cells = np.stack([~bad & ~called, ~bad & called, bad & ~called, bad & called], axis=1).astype(np.float64)

    def family(weights: Array) -> dict[str, Array]:
        if not len(scores):
            return {name: np.full(len(weights), np.nan) for name in ("auroc", "ap", *rates(*np.zeros(4)))}
        tp, fp, _ = counts_at_levels(labels, scores, weights)
        return {"auroc": auroc(tp, fp), "ap": average_precision(tp, fp), **rates(*(weights @ cells).T)}

    return family


def subset(family: Family, rows: Array) -> Family:
    """A family over `rows` alone, as a function of the weights of all images."""
    return lambda weights: family(weights[:, rows])


def confusion(labels: Array, scores: Array, threshold: float) -> dict[str, int]:
    """Numbers of images: true negatives, false positives, false negatives, true positives at `score >= threshold`."""
    bad, called = np.asarray(labels) > 0, np.asarray(scores) >= threshold
    cells = {"tn": ~bad & ~called, "fp": ~bad & called, "fn": bad & ~called, "tp": bad & called}
    return {name: int(cell.sum()) for name, cell in cells.items()}


def class_matrix(classes: list[str], true: list[str], predicted: list[str]) -> list[list[int]]:
    """Confusion matrix: row = true class, column = predicted class, both in the order of `classes`."""
    number = {name: i for i, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(matrix, ([number[name] for name in true], [number[name] for name in predicted]), 1)
    rows: list[list[int]] = matrix.tolist()
    return rows


def roc_curve(tp: Array, fp: Array, levels: Array) -> dict[str, list[Any]] | None:
    """ROC from (B,) counts, thinned; the point (0, 0) has no threshold. None where one class is missing."""
    if not len(tp) or tp[-1] <= 0 or fp[-1] <= 0:
        return None
    x, y = from_origin(fp) / fp[-1], from_origin(tp) / tp[-1]
    return _curve({"fpr": x, "tpr": y}, levels)


def pr_curve(tp: Array, fp: Array, levels: Array) -> dict[str, list[Any]] | None:
    """Precision against recall from (B,) counts, thinned; begins at recall 0, precision 1, without a threshold."""
    if not len(tp) or tp[-1] <= 0 or fp[-1] <= 0:
        return None
    precision = np.append(1.0, np.divide(tp, tp + fp, out=np.ones(len(tp)), where=tp + fp > 0))
    return _curve({"recall": from_origin(tp) / tp[-1], "precision": precision}, levels)


def _curve(axes: dict[str, Array], levels: Array) -> dict[str, list[Any]]:
    x, y = axes.values()
    keep = thin(x, y)
    curve: dict[str, list[Any]] = {name: np.round(values[keep], 6).tolist() for name, values in axes.items()}
    curve["threshold"] = [None, *(float(value) for value in levels[keep[1:] - 1])]
    return curve


def thin(x: Array, y: Array, points: int = CURVE_POINTS) -> Array:
    """Indices of at most `points` points of a curve, evenly spaced along its length, both ends kept."""
    if len(x) <= points:
        return np.arange(len(x))
    length = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    return np.unique(np.append(np.searchsorted(length, np.linspace(0, length[-1], points - 1)), [0, len(x) - 1]))
