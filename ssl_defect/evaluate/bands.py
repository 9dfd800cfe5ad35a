"""Pointwise bands of ROC and precision-recall: percentiles over bootstrap draws of groups, at fixed places across.

Vertical averaging in the sense of Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 2006,
section 8.1. A band holds at each place by itself, not for the whole curve at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.evaluate.bootstrap import MAX_DROPPED, Resampling, weights_in_chunks
from ssl_defect.evaluate.metrics import Array, counts_at_levels, from_origin

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
    ends = [(1 - spec.level) / 2, (1 + spec.level) / 2]
    found = {}
    for name, across, drawn in (("roc", "fpr", roc), ("pr", "recall", pr)):
        low, high = np.round(np.quantile(drawn, ends, axis=0), 6).tolist()
        found[name] = {across: np.round(GRID, 2).tolist(), "low": low, "high": high}
    return found


def heights(tp: Array, fp: Array) -> Array:
    """True-positive rate over `GRID` of false-positive rates, straight between levels (B,); of a step its upper end."""
    rate: Array = np.interp(GRID, from_origin(fp) / fp[-1], from_origin(tp) / tp[-1])
    return rate


def precisions(tp: Array, fp: Array) -> Array:
    """Precision at the highest level (B,) that reaches each recall of `GRID`."""
    reached = np.searchsorted(tp, GRID * tp[-1] - 1e-9)
    called = tp + fp
    reached = np.maximum(reached, np.searchsorted(called, 0, side="right"))  # the first level that calls anything
    precision: Array = tp[reached] / called[reached]
    return precision
