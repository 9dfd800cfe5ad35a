"""DeLong's variance of the AUROC, and of differences of AUROCs on the same images, without any draws.

DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988) 837, equations 4 to 9, by midranks as Sun & Xu, IEEE Signal
Processing Letters 21 (2014) 1389. Images of a near-copy group depend on each other: Obuchowski, Biometrics 53 (1997)
567, sums the same components over groups first. With one image per group both are the same. Intervals and p are by t
with the degrees of freedom of those sums (evaluate/spread.py), since the variance is uncertain where it rests on few.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from ssl_defect.evaluate.metrics import WHY, Array
from ssl_defect.evaluate.spread import Part, ends, freedom, p_value


def placements(labels: Array, scores: Array) -> Array:
    """Share of the other class that each item stands on the right side of, ties counted half; (..., n) in [0, 1].

    The mean over the defective items is the AUROC, and so is the mean over the good ones.

    Args:
        labels: (n,) 0 good, 1 defective; both must occur.
        scores: (..., n) higher is more defective.
    """
    bad = np.asarray(labels) > 0
    scores = np.asarray(scores, np.float64)
    within = np.empty(scores.shape)
    for rows in (bad, ~bad):
        within[..., rows] = rankdata(scores[..., rows], axis=-1)
    below = rankdata(scores, axis=-1) - within  # items of the other class below, ties half
    found: Array = np.where(bad, below / (~bad).sum(), 1 - below / bad.sum())
    return found


def covariance(labels: Array, scores: Array, groups: Array | None = None) -> tuple[Array, Array]:
    """AUROCs (k,) of k detectors on the same images, and their covariance (k, k).

    NaN throughout where a class is missing; a NaN covariance where a class lies in fewer than two groups.

    Args:
        labels: (n,) 0 good, 1 defective.
        scores: (k, n), a row per detector; higher is more defective.
        groups: (n,) near-copy group of each image; each image alone where None.
    """
    areas, found, _ = _components(labels, scores, groups)
    return areas, found


def _components(labels: Array, scores: Array, groups: Array | None) -> tuple[Array, Array, Array]:
    """Those of `covariance`, and the effect (k, groups) of each group on the AUROCs."""
    labels, scores = np.asarray(labels) > 0, np.atleast_2d(np.asarray(scores, np.float64))
    detectors = len(scores)
    if labels.all() or not labels.any():
        return np.full(detectors, np.nan), np.full((detectors, detectors), np.nan), np.zeros((detectors, 0))
    inverse = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)[1]
    placed = placements(labels, scores)
    areas = placed[:, labels].mean(1)
    parts = [_sums(placed - areas[:, None], inverse, rows) for rows in (labels, ~labels)]
    held = [len(np.unique(inverse[rows])) for rows in (labels, ~labels)]
    every = inverse.max() + 1
    if min(held) < 2:
        return areas, np.full((detectors, detectors), np.nan), parts[0] + parts[1]
    (bad, good), crossed = parts, parts[0] @ parts[1].T
    found = bad @ bad.T * held[0] / (held[0] - 1) + good @ good.T * held[1] / (held[1] - 1)
    return areas, found + (crossed + crossed.T) * every / (every - 1), bad + good


def _sums(deviations: Array, inverse: Array, rows: Array) -> Array:
    """(k, groups): the deviations of `rows` summed over each group, as shares of their number."""
    count = inverse.max() + 1
    found: Array = np.stack([np.bincount(inverse[rows], one[rows], count) for one in deviations]) / rows.sum()
    return found


def interval(
    labels: Array, scores: Array, groups: Array | None = None, level: float = 0.95, scale: str = "logit"
) -> dict[str, Any]:
    """`{"value", "low", "high"}` of the AUROC; an undefined one is None beside a `why`.

    Args:
        labels, scores, groups: as for `covariance`, with the scores (n,) of one detector.
        scale: `logit`, which keeps the ends in (0, 1) and covers better near 1, or `plain`.
    """
    (value,), ((variance,),), (effects,) = _components(labels, scores, groups)
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None, "why": WHY["auroc"]}
    if not np.isfinite(variance):
        why = "needs two groups of each class"
        return {"value": float(value), "low": None, "high": None, "why": why}
    if not variance:
        why = "no two images stand apart in how they are ranked: no variance to tell from"
        return {"value": float(value), "low": None, "high": None, "why": why}
    parts, logits = [Part(float(variance), freedom(effects))], scale == "logit" and 0 < value < 1
    low, high = np.clip(ends(float(value), parts, level, logits), 0, 1)
    return {"value": float(value), "low": float(low), "high": float(high)}


def paired_difference(
    labels: Array, scores: tuple[Array, Array], groups: Array | None = None, level: float = 0.95
) -> dict[str, Any]:
    """AUROC of the first detector less that of the second, `{"value", "low", "high", "p"}`; `p` is two-sided.

    Args:
        labels, groups: as for `covariance`.
        scores: two arrays (n,) over the same images in the same order.
    """
    areas, found, effects = _components(labels, np.stack(scores), groups)
    value, variance = float(areas[0] - areas[1]), float(found[0, 0] + found[1, 1] - 2 * found[0, 1])
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None, "p": None, "why": WHY["auroc"]}
    if not variance > 1e-15:  # NaN as well
        why = "both rank the images alike, or a class lies in one group"
        return {"value": value, "low": None, "high": None, "p": None, "why": why}
    parts = [Part(variance, freedom(effects[0] - effects[1]))]
    low, high = ends(value, parts, level)
    return {"value": value, "low": low, "high": high, "p": p_value(value, parts)}
