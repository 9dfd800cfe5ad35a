"""Tests for tables: sign-flip p-values, Holm's correction, Friedman's test with Nemenyi's distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
EXACT = 16
"""So many pairs at most have every one of their sign flips looked at: 65,536 of them."""


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
