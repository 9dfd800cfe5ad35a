"""Resampling of groups of near-copies, for any family of metrics: bootstrap draws, and intervals without draws.

Images of one group are not independent, so that groups are drawn with replacement and an image counts as often
as its group was drawn (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13). The draws make
bands of curves. An interval is the value give or take t standard errors, on the logit scale for a metric in [0, 1]
(delta method), from leaving out one block of groups after the other, the bootstrap's linear part (chapter 11 there, and
evaluate/spread.py): it holds the truth as often as it says where percentiles and standard deviations of the draws do so
too seldom, near 1 and with few groups of a class (experiments/interval_coverage.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_defect.evaluate.metrics import WHY, Array, Family
from ssl_defect.evaluate.spread import Part, ends, of_groups

MAX_DROPPED = 0.25
"""Share of draws without a class above which no interval is given.

A class that lives in one group alone is missing from about 37% of the draws, one in two groups from about 13%.
"""
BLOCKS = 200
"""Left out one after the other for the degrees of freedom; more would hardly change t, and cost as much as draws."""
CHUNK = 2_000_000
OTHER_RANGE = {"mae", "rmse", "r2", "spearman"}
UNVARIED = "nothing varies: no variance to tell from"
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


def weights_without(groups: Array) -> Iterator[Array]:
    """Yield float32 (b, n), 0 for the images of one block and 1 for all others; a block is a group, or several."""
    inverse = np.unique(groups, return_inverse=True)[1]
    blocks = min(BLOCKS, inverse.max() + 1) if len(groups) else 0
    step = max(1, CHUNK // max(1, len(groups)))
    for start in range(0, blocks, step):
        yield (inverse % blocks != np.arange(start, min(start + step, blocks))[:, None]).astype(np.float32)


def point(family: Family, images: int) -> dict[str, float]:
    """The metrics of the images as they are; NaN where undefined."""
    return {name: float(value[0]) for name, value in family(np.ones((1, images))).items()}


def draw(families: list[Family], groups: Array, spec: Resampling) -> list[dict[str, Array]]:
    """Metrics (draws,) of several families under the same draws, so that their differences are paired."""
    if not len(groups):
        return [{name: np.full(spec.draws, np.nan) for name in point(family, 0)} for family in families]
    return _each(families, weights_in_chunks(groups, spec))


def leave_out(families: list[Family], groups: Array) -> list[dict[str, Array]]:
    """Metrics (blocks,) of several families without each block of groups in turn: the jackknife's values."""
    if not len(groups):
        return [{name: np.full(0, np.nan) for name in point(family, 0)} for family in families]
    return _each(families, weights_without(groups))


def _each(families: list[Family], chunks: Iterator[Array]) -> list[dict[str, Array]]:
    parts = [[family(weights) for family in families] for weights in chunks]
    return [
        {name: np.concatenate([part[i][name] for part in parts]) for name in parts[0][i]} for i in range(len(families))
    ]


def intervals(family: Family, groups: Array, spec: Resampling) -> dict[str, dict[str, Any]]:
    """`{metric: {"value", "low", "high"}}` with intervals over `groups` (n,), the near-copy group of each image.

    An undefined value or interval is None beside a `why`. A share of exactly 0 or 1 has no spread; its interval is that
    of as many groups that are all right (or wrong), `level` taken as two-sided (Clopper & Pearson, Biometrika 26 (1934)
    404).
    """
    values = point(family, len(groups))
    (without,) = leave_out([family], groups)
    found = {}
    for name, value in values.items():
        share = name not in OTHER_RANGE
        one = with_interval(value, [of_groups(without[name])], spec.level, WHY.get(name, ""), share)
        if share and value in (0, 1) and one["low"] is not None:
            least = ((1 - spec.level) / 2) ** (1 / max(1, told_by(family, name, groups)))
            one |= {"low": least} if value else {"high": 1 - least}
        found[name] = one
    return found


def told_by(family: Family, name: str, groups: Array) -> int:
    """How often a metric is told independently: by each group that defines it alone, as a recall is by a defective one.

    Of the others it may take two kinds, as an AUROC does: so many pairs are independent as there are groups of the
    rarer kind. Zero where three kinds are needed.
    """
    inverse = np.unique(groups, return_inverse=True)[1]
    count = int(inverse.max()) + 1
    step = max(1, CHUNK // len(groups))

    def defined(beside: Array) -> Array:
        """Bool (groups,): whether each defines the metric together with the images `beside`."""
        chunks = (
            (beside | (inverse == np.arange(start, min(start + step, count))[:, None])).astype(np.float32)
            for start in range(0, count, step)
        )
        return np.isfinite(_each([family], chunks)[0][name])

    alone = defined(np.zeros(len(groups), bool))
    rest = np.flatnonzero(~alone)
    if not len(rest):
        return int(alone.sum())
    other = int(defined(inverse == rest[0])[rest].sum())
    return int(alone.sum()) + min(other, len(rest) - other)


def paired_difference(a: Family, b: Family, groups: Array, spec: Resampling) -> dict[str, dict[str, Any]]:
    """`a - b` of two detectors on the same images, metric by metric, each group left out for both.

    Args:
        a: family of the one run, such as `image_family(labels, scores_a, threshold_a)`.
        b: family of the other run over the same images in the same order.
        groups: (n,) near-copy group of each image.
    """
    one, other = point(a, len(groups)), point(b, len(groups))
    without, beside = leave_out([a, b], groups)
    return {
        name: with_interval(
            one[name] - other[name], [of_groups(without[name] - beside[name])], spec.level, WHY.get(name, "undefined")
        )
        for name in one
        if name in other
    }


def with_interval(value: float, parts: Sequence[Part], level: float, why: str, share: bool = False) -> dict[str, Any]:
    """A value with its interval, on the logit scale for a `share`, or with the reason for none.

    Args:
        parts: of the value's variance: that of test groups first, and that of seeds where there are several.
        why: an undefined value is so.
    """
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None, "why": why or "undefined"}
    if not parts[0].freedom:
        return {"value": value, "low": None, "high": None, "why": "a single group: nothing to tell a variance from"}
    if not np.isfinite(parts[0].variance):
        return {
            "value": value,
            "low": None,
            "high": None,
            "why": "undefined without one of the groups: too few of them",
        }
    if not any(part.variance > 0 for part in parts) and value not in ((0, 1) if share else (0,)):
        return {"value": value, "low": None, "high": None, "why": UNVARIED}
    low, high = ends(value, parts, level, share and 0 < value < 1)
    return {"value": value, "low": low, "high": high}
