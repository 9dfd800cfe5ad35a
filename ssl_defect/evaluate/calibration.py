"""Whether a score means what it says: expected calibration error, Brier score, and the bins of the diagram."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.evaluate.bootstrap import Resampling, intervals
from ssl_defect.evaluate.metrics import Array, Family
from ssl_defect.evaluate.shares import share_of

BINS = 10


def calibration(labels: Array, scores: Array, groups: Array, spec: Resampling) -> dict[str, Any] | None:
    """The block "calibration" of `metrics.json`; None without both classes.

    `{"ece", "brier": {"value", "low", "high"}, "bins": [{"low", "high", "images", "score", "defective"}]}`: ends of a
    bin of scores, mean score and the share of defective images in it with its interval; empty bins are left out.

    Args:
        labels: (n,) 0 good, 1 defective.
        scores: (n,) in [0, 1].
        groups: (n,) near-copy group of each image.
    """
    labels = np.asarray(labels) > 0
    if not len(labels) or labels.all() or not labels.any():
        return None
    places = bin_of(scores)
    bins = []
    for place in np.unique(places):
        here = places == place
        bins.append(
            {
                "low": place / BINS,
                "high": (place + 1) / BINS,
                "images": int(here.sum()),
                "score": float(scores[here].mean()),
                "defective": share_of(labels[here], groups[here], spec.level),
            }
        )
    return {**intervals(calibration_family(labels, scores), groups, spec), "bins": bins}


def bin_of(scores: Array) -> Array:
    """(n,) numbers of bins of equal width; a score of 1 is in the last one."""
    places: Array = np.minimum((np.asarray(scores, np.float64) * BINS).astype(np.int64), BINS - 1)
    return places


def calibration_family(labels: Array, scores: Array) -> Family:
    """`ece` and `brier`, both in [0, 1] and best at 0, as a function of the images' weights.

    ECE: Guo et al., On calibration of modern neural networks, ICML 2017, eq. 3, with ten bins of equal width. Brier,
    Verification of forecasts expressed in terms of probability, Monthly Weather Review 1950.
    """
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    gaps = np.zeros((len(scores), BINS))
    gaps[np.arange(len(scores)), bin_of(scores)] = scores - labels
    squares = (scores - labels) ** 2

    def family(weights: Array) -> dict[str, Array]:
        total = weights.sum(-1, dtype=np.float64)
        return {"ece": np.abs(weights @ gaps).sum(-1) / total, "brier": weights @ squares / total}

    return family
