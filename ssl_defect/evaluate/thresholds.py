"""Where the line is drawn: chosen on validation images, never on test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ssl_defect.evaluate.metrics import Array, counts_at_levels, divide

GOOD_QUANTILE = 0.95
Rule = Literal["auto", "f1", "quantile"]
GOOD_PIXEL_QUANTILE = 0.995


@dataclass(frozen=True)
class Threshold:
    """`score >= value` is called defective; `rule` says in words how the value came about."""

    value: float
    rule: str
    false_alarms: dict[str, Any] | None = None


def image_threshold(
    labels: Array, scores: Array, rule: Rule = "auto", quantile: float = GOOD_QUANTILE, level: float = 0.95
) -> Threshold:
    """The threshold of images.

    Args:
        labels: (n,) 0 good, 1 defective, of the validation images.
        scores: (n,) in [0, 1].
        rule: `f1`, the largest F1, midway between the two neighbouring scores, of equal F1 the highest one;
            `quantile`, of the good scores alone; `auto`, F1 where there are defective images to count.
        quantile: of the good scores, in (0, 1).
        level: of the interval of the expected share of false alarms.

    Without defective (or good) images F1 says nothing, and a stated fallback is taken.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    good = scores[labels == 0]
    if len(good) and (rule == "quantile" or len(good) == len(scores)):
        return above_good(good, quantile, level, len(good) < len(scores))
    if not len(good):
        return Threshold(0.5, "0.5, as validation has no good images")
    tp, fp, levels = counts_at_levels(labels, scores)
    best = best_f1(tp, fp)
    below = levels[min(best + 1, len(levels) - 1)]
    return Threshold(float((levels[best] + below) / 2), "max F1 on validation")


def above_good(good: Array, quantile: float, level: float, others: bool) -> Threshold:
    """Just above the smallest of the good scores that leaves at most a share 1 - quantile of new good parts above it.

    Of n good scores the k-th in order is exceeded by a new one with an expected probability of (n + 1 - k) / (n + 1),
    whatever their distribution; over all samples of n that probability follows Beta(n + 1 - k, k) (order statistics,
    David and Nagaraja 2003, section 2.3; the rank as in split conformal prediction, Vovk et al. 2005). Near-copies
    among them count as one each, so with copies the interval is too narrow.
    """
    from scipy.stats import beta

    n = len(good)
    k = min(n, math.ceil(quantile * (n + 1)))
    value = float(np.nextafter(np.sort(good)[k - 1], np.inf))  # the score itself still counts as good
    low, high = beta.ppf([(1 - level) / 2, (1 + level) / 2], n + 1 - k, k)
    expected = {"expected": (n + 1 - k) / (n + 1), "low": float(low), "high": float(high), "good": n}
    why = "" if others else " (no defective ones)"
    return Threshold(value, f"{quantile:g} quantile of the good validation scores{why}", expected)


def best_f1(tp: Array, fp: Array) -> int:
    """Index of the highest of the (B,) descending levels whose F1 (= Dice) is the largest."""
    return int(np.nanargmax(divide(2 * tp, tp + fp + tp[-1])))


def pixel_threshold(tp: Array, fp: Array, levels: Array, rule: Rule = "auto") -> Threshold:
    """The level of largest Dice over all validation pixels together.

    Args:
        tp, fp: (B,) defective and good pixels at or above each of the descending `levels`.
        rule: `quantile` looks at the good pixels alone, whatever there is of defective ones.

    Without defective pixels a stated quantile of the good pixels is taken, without any pixels 0.5.
    """
    if not len(levels) or fp[-1] + tp[-1] <= 0:
        return Threshold(0.5, "0.5, as validation has no masks")
    if tp[-1] > 0 and rule != "quantile":
        return Threshold(float(levels[best_f1(tp, fp)]), "max Dice on validation")
    allowed = np.flatnonzero(fp <= (1 - GOOD_PIXEL_QUANTILE) * fp[-1])
    value = float(levels[allowed[-1]]) if len(allowed) else float(np.nextafter(levels[0], np.inf, dtype=np.float32))
    why = "" if tp[-1] > 0 else " (no defective ones)"
    return Threshold(value, f"{GOOD_PIXEL_QUANTILE:g} quantile of the good validation pixels{why}")
