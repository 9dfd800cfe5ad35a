"""Bootstrap over groups of near-copies, for any family of metrics.

Images of one group are not independent, so that groups are drawn with replacement and an image counts as often
as its group was drawn (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13).
A metric in [0, 1] has its value give or take t standard deviations of the draws on the logit scale (delta method): near
1 and with few groups this covers where percentiles do not, see experiments/interval_coverage.py. Differences and
metrics of another range have percentiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t

from ssl_defect.evaluate.metrics import WHY, Array, Family

MAX_DROPPED = 0.25
"""Share of draws without a class above which no interval is given.

A class that lives in one group alone is missing from about 37% of the draws, one in two groups from about 13%.
"""
CHUNK = 2_000_000
OTHER_RANGE = {"mae", "rmse", "r2", "spearman"}
"""Metrics that are no share in [0, 1]."""


@dataclass(frozen=True)
class Resampling:
    """Number of draws, confidence level of the interval, and the seed of the draws."""

    draws: int = 1000
    level: float = 0.95
    seed: int = 0


def weights_in_chunks(groups: Array, spec: Resampling) -> Iterator[Array]:
    """Yield float32 (d, n): how often each of n images is drawn, `spec.draws` rows in all; a pure function of both."""
    names, inverse = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng([spec.seed, len(names)])
    step = max(1, CHUNK // max(1, len(groups)))
    for start in range(0, spec.draws, step):
        rows = min(step, spec.draws - start)
        picks = rng.integers(0, len(names), (rows, len(names))) + np.arange(rows)[:, None] * len(names)
        drawn = np.bincount(picks.ravel(), minlength=rows * len(names)).reshape(rows, -1)
        yield drawn.astype(np.float32)[:, inverse]


def point(family: Family, images: int) -> dict[str, float]:
    """The metrics of the images as they are; NaN where undefined."""
    return {name: float(value[0]) for name, value in family(np.ones((1, images))).items()}


def draw(families: list[Family], groups: Array, spec: Resampling) -> list[dict[str, Array]]:
    """Metrics (draws,) of several families under the same draws, so that their differences are paired."""
    if not len(groups):
        return [{name: np.full(spec.draws, np.nan) for name in point(family, 0)} for family in families]
    parts = [[family(weights) for family in families] for weights in weights_in_chunks(groups, spec)]
    return [
        {name: np.concatenate([part[i][name] for part in parts]) for name in parts[0][i]} for i in range(len(families))
    ]


def intervals(family: Family, groups: Array, spec: Resampling) -> dict[str, dict[str, Any]]:
    """`{metric: {"value", "low", "high"}}` with intervals over `groups` (n,), the near-copy group of each image.

    An undefined value or interval is None beside a `why`; draws that lacked a class are left out and counted in
    `dropped`.
    """
    values = point(family, len(groups))
    (drawn,) = draw([family], groups, spec)
    return {
        name: summary(values[name], drawn[name], groups, spec.level, WHY.get(name, ""), name not in OTHER_RANGE)
        for name in values
    }


def paired_difference(a: Family, b: Family, groups: Array, spec: Resampling) -> dict[str, dict[str, Any]]:
    """`a - b` of two detectors on the same images, metric by metric, each draw taken for both.

    Args:
        a: family of the one run, such as `image_family(labels, scores_a, threshold_a)`.
        b: family of the other run over the same images in the same order.
        groups: (n,) near-copy group of each image.
    """
    one, other = point(a, len(groups)), point(b, len(groups))
    drawn_a, drawn_b = draw([a, b], groups, spec)
    shared = [name for name in one if name in other]
    return {
        name: summary(
            one[name] - other[name], drawn_a[name] - drawn_b[name], groups, spec.level, WHY.get(name, "undefined")
        )
        for name in shared
    }


def summary(value: float, drawn: Array, groups: Array, level: float, why: str, share: bool = False) -> dict[str, Any]:
    """A value with the interval of its draws, on the logit scale for a `share`, or with the reason for none."""
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None, "why": why or "undefined"}
    units = len(np.unique(groups))
    if units < 2:
        return {"value": value, "low": None, "high": None, "why": "a single group: nothing to draw from"}
    kept = drawn[np.isfinite(drawn)]
    dropped = len(drawn) - len(kept)
    if dropped > MAX_DROPPED * len(drawn):
        reason = f"too few groups: {dropped} of {len(drawn)} draws leave it undefined"
        return {"value": value, "low": None, "high": None, "why": reason}
    if share and 0 < value < 1:
        reach = t.ppf((1 + level) / 2, units - 1) * kept.std(ddof=1) / (value * (1 - value))
        low, high = expit(logit(value) + np.array([-reach, reach]))
    else:
        low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    found = {"value": value, "low": float(low), "high": float(high)}
    return {**found, "dropped": dropped} if dropped else found
