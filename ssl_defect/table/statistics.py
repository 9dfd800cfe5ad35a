"""Tests for tables: bootstrap and sign-flip p-values, Holm's correction, Friedman's test with Nemenyi's distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
EXACT = 16
"""So many pairs at most have every one of their sign flips looked at: 65,536 of them."""


def bootstrap_p(draws: Array) -> float | None:
    """Two-sided p of a difference from its bootstrap draws (D,): twice the smaller share on one side of zero.

    A difference of zero counts on both sides, and one draw is added to each share, so that p is never 0 and at least
    2 / (D + 1) (Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 4.2). NaN draws are left
    out; None where none is left. It falls below 1 - level about where the percentile interval of that level leaves
    zero out.
    """
    kept = np.asarray(draws, np.float64)
    kept = kept[np.isfinite(kept)]
    if not len(kept):
        return None
    fewer = min(int((kept <= 0).sum()), int((kept >= 0).sum()))
    return float(min(1.0, 2 * (fewer + 1) / (len(kept) + 1)))


def seeds_p(points: Array, draws: Array) -> float | None:
    """Two-sided p of a mean difference by t, where few seeds would make the bootstrap's p too small.

    The variance is that of the draws of test groups and, added to it, that of the mean over seeds; the degrees of
    freedom are Satterthwaite's (Biometrics Bulletin 2 (1946) 110), from seeds - 1 where the seeds differ most to
    many where the test groups do. None for one seed, or where nothing varies.

    Args:
        points: (n,) the difference of each seed on the test images as they are.
        draws: (D,) the mean over the seeds for each draw of test groups; NaN is left out.
    """
    from scipy.stats import t

    kept = draws[np.isfinite(draws)]
    if len(points) < 2 or len(kept) < 2:
        return None
    groups, seeds = float(kept.var(ddof=1)), float(points.var(ddof=1)) / len(points)
    if not groups + seeds > 0:
        return None
    freedom = (groups + seeds) ** 2 * (len(points) - 1) / seeds**2 if seeds else np.inf
    return float(2 * t.sf(abs(points.mean()) / np.sqrt(groups + seeds), freedom))


def sign_flip_p(differences: Sequence[float] | Array, draws: int = 9999, seed: int = 0) -> float:
    """Two-sided permutation p of paired differences (n,): how often flipped signs give as large a sum.

    Exact up to 16 pairs, else by random flips, with the flips as they are counted in. 1 without any pair.
    """
    values = np.asarray(differences, np.float64)
    if len(values) <= EXACT:
        bits = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
        signs = 1.0 - 2.0 * bits
    else:
        rng = np.random.default_rng(seed)
        signs = np.vstack([np.ones(len(values)), rng.choice([-1.0, 1.0], (draws, len(values)))])
    sums = np.abs(signs @ values)
    return float((sums >= sums[0] * (1 - 1e-12)).mean())


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values in the order given; None stays None and is not counted.

    Holm, Scandinavian Journal of Statistics 6 (1979) 65: the i-th smallest of m is multiplied by m - i + 1, and none
    is smaller than the one before it.
    """
    there = sorted((value, place) for place, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    least = 0.0
    for i, (value, place) in enumerate(there):
        least = max(least, min(1.0, (len(there) - i) * value))
        adjusted[place] = least
    return adjusted


@dataclass(frozen=True)
class Ranked:
    """Friedman's test of k treatments over n blocks.

    Attributes:
        names: the treatments; `ranks`: their mean ranks, 1 the best.
        blocks: n; `statistic`: Friedman's chi-square, corrected for ties; `p`: of k - 1 degrees of freedom. Both
            None for fewer than three treatments, or where all are equal everywhere.
        distance: Nemenyi's critical difference of two mean ranks at `alpha`.
    """

    names: list[str]
    ranks: list[float]
    blocks: int
    statistic: float | None
    p: float | None
    distance: float
    alpha: float


def friedman(names: list[str], values: Array, alpha: float = 0.05) -> Ranked:
    """Friedman's test and Nemenyi's critical difference (Demsar, JMLR 7 (2006) 1, section 3.2.2).

    Args:
        names: of the k treatments, at least two.
        values: (n, k), a row per block such as a set of pictures; higher is better.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    blocks, k = values.shape
    ranks = rankdata(-values, axis=1).mean(axis=0)
    statistic = p = None
    if k > 2 and blocks > 1 and np.ptp(values, axis=1).any():
        found = friedmanchisquare(*values.T)
        statistic, p = float(found.statistic), float(found.pvalue)
    q = float(studentized_range.ppf(1 - alpha, k, np.inf)) / np.sqrt(2)
    distance = float(q * np.sqrt(k * (k + 1) / (6 * blocks)))
    return Ranked(names, [float(rank) for rank in ranks], blocks, statistic, p, distance, alpha)


def alike(ranked: Ranked) -> list[tuple[int, int]]:
    """Longest runs of treatments, in the order of their ranks, that lie within the critical difference.

    First and last place of each run in the order of rising ranks; runs of one are left out.
    """
    order = sorted(ranked.ranks)
    found: list[tuple[int, int]] = []
    for first in range(len(order)):
        last = max(i for i in range(first, len(order)) if order[i] - order[first] <= ranked.distance + 1e-12)
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found
