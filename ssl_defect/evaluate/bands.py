"""Pointwise bands of curves: percentiles over bootstrap draws of groups, at fixed places across.

Vertical averaging in the sense of Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 2006,
section 8.1. A band holds at each place by itself, not for the whole curve at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.evaluate.bootstrap import MAX_DROPPED, Resampling, weights_in_chunks
from ssl_defect.evaluate.metrics import Array, counts_at_levels, from_origin
from ssl_defect.evaluate.regions import PixelCounts

GRID = np.linspace(0, 1, 101)


def bands(labels: Array, scores: Array, groups: Array, spec: Resampling) -> dict[str, Any] | None:
    """`{"roc": {"fpr", "low", "high"}, "pr": {"recall", "low", "high"}}` over `GRID`, of test images (n,).

    Draws without one of the classes are left out. None where there are too many of them, or fewer than two groups.
    """
    if len(np.unique(groups)) < 2:
        return None
    roc, pr = [], []
    for weights in weights_in_chunks(groups, spec):
        tp, fp, _ = counts_at_levels(labels, scores, weights)
        for hits, alarms in zip(tp, fp, strict=True):
            if hits[-1] > 0 and alarms[-1] > 0:
                roc.append(heights(hits, alarms))
                pr.append(precisions(hits, alarms))
    if len(roc) < (1 - MAX_DROPPED) * spec.draws:
        return None
    return {"roc": _band("fpr", GRID, roc, spec), "pr": _band("recall", GRID, pr, spec)}


def pixel_bands(counts: PixelCounts, groups: Array, spec: Resampling, limit: float) -> dict[str, Any] | None:
    """Bands "pixel_roc", "pixel_pr" as of images, and "pro" `{"fpr", "low", "high"}` up to `limit`.

    Draws without a defective or a good pixel are left out. None as for images.

    Args:
        groups: (n,) near-copy group of each counted image.
        limit: false-positive rate of pixels up to which AUPRO is measured, in (0, 1].
    """
    if len(np.unique(groups)) < 2 or not len(counts.rows):
        return None
    across = GRID * limit
    drawn: dict[str, list[Array]] = {"pixel_roc": [], "pixel_pr": [], "pro": []}
    for weights in weights_in_chunks(groups, spec):
        bad = weights[:, counts.rows]
        tp, overlap, regions = bad @ counts.tp, bad @ counts.overlap, bad @ counts.regions
        fp = weights @ counts.called - tp
        for i in np.flatnonzero((tp[:, -1] > 0) & (fp[:, -1] > 0)):
            hits, alarms = tp[i].astype(np.float64), fp[i].astype(np.float64)
            drawn["pixel_roc"].append(heights(hits, alarms))
            drawn["pixel_pr"].append(precisions(hits, alarms))
            drawn["pro"].append(heights(overlap[i], alarms, across, regions[i]))
    if len(drawn["pro"]) < (1 - MAX_DROPPED) * spec.draws:
        return None
    places = {"pixel_roc": ("fpr", GRID), "pixel_pr": ("recall", GRID), "pro": ("fpr", across)}
    return {name: _band(*places[name], found, spec) for name, found in drawn.items()}


def _band(name: str, across: Array, drawn: list[Array], spec: Resampling) -> dict[str, list[float]]:
    low, high = np.round(np.quantile(drawn, [(1 - spec.level) / 2, (1 + spec.level) / 2], axis=0), 6).tolist()
    return {name: np.round(across, 6).tolist(), "low": low, "high": high}


def heights(hits: Array, fp: Array, across: Array = GRID, of: float | None = None) -> Array:
    """`hits` (B,) as a share of the last, or `of` so many, at false-positive rates `across`.

    Straight between levels; of a step its upper end.
    """
    whole = hits[-1] if of is None else of
    rate: Array = np.interp(across, from_origin(fp) / fp[-1], from_origin(hits) / whole)
    return rate


def precisions(tp: Array, fp: Array) -> Array:
    """Precision at the highest level (B,) that reaches each recall of `GRID`."""
    reached = np.searchsorted(tp, GRID * tp[-1] - 1e-9)
    called = tp + fp
    reached = np.maximum(reached, np.searchsorted(called, 0, side="right"))  # the first level that calls anything
    precision: Array = tp[reached] / called[reached]
    return precision
