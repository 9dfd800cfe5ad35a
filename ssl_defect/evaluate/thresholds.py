"""Where the line is drawn: chosen on validation images, never on test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_defect.evaluate.metrics import Array, counts_at_levels, divide

GOOD_QUANTILE = 0.95
GOOD_PIXEL_QUANTILE = 0.995


@dataclass(frozen=True)
class Threshold:
    """`score >= value` is called defective; `rule` says in words how the value came about."""

    value: float
    rule: str


def image_threshold(labels: Array, scores: Array) -> Threshold:
    """The threshold of largest F1, midway between the two neighbouring scores; of equal F1 the highest one.

    Args:
        labels: (n,) 0 good, 1 defective, of the validation images.
        scores: (n,) in [0, 1].

    Without defective (or good) images F1 says nothing, and a stated fallback is taken.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    good = scores[labels == 0]
    if len(good) == len(scores) and len(good):
        value = float(np.quantile(good, GOOD_QUANTILE))
        value = float(np.nextafter(value, np.inf))  # the quantile itself still counts as good
        return Threshold(value, f"{GOOD_QUANTILE:g} quantile of the good validation scores (no defective ones)")
    if not len(good):
        return Threshold(0.5, "0.5, as validation has no good images")
    tp, fp, levels = counts_at_levels(labels, scores)
    best = best_f1(tp, fp)
    below = levels[min(best + 1, len(levels) - 1)]
    return Threshold(float((levels[best] + below) / 2), "max F1 on validation")


def best_f1(tp: Array, fp: Array) -> int:
    """Index of the highest of the (B,) descending levels whose F1 (= Dice) is the largest."""
    return int(np.nanargmax(divide(2 * tp, tp + fp + tp[-1])))


def pixel_threshold(tp: Array, fp: Array, levels: Array) -> Threshold:
    """The level of largest Dice over all validation pixels together.

    Args:
        tp, fp: (B,) defective and good pixels at or above each of the descending `levels`.

    Without defective pixels a stated quantile of the good pixels is taken, without any pixels 0.5.
    """
    if not len(levels) or fp[-1] + tp[-1] <= 0:
        return Threshold(0.5, "0.5, as validation has no masks")
    if tp[-1] > 0:
        return Threshold(float(levels[best_f1(tp, fp)]), "max Dice on validation")
    allowed = np.flatnonzero(fp <= (1 - GOOD_PIXEL_QUANTILE) * fp[-1])
    value = float(levels[allowed[-1]]) if len(allowed) else float(np.nextafter(levels[0], np.inf, dtype=np.float32))
    return Threshold(value, f"{GOOD_PIXEL_QUANTILE:g} quantile of the good validation pixels (no defective ones)")
