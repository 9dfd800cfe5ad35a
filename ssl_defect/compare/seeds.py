"""Intervals over test groups and seeds together: a draw takes both anew.

Groups of test images are drawn as in `evaluate.bootstrap`; for each such draw the seeds are drawn with replacement too,
so that the interval holds the chance of the training as well as that of the test set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def over_seeds(draws: Array, seed: int = 0) -> Array:
    """Mean over seeds drawn with replacement, for each draw; (seeds, draws) to (draws,)."""
    count, columns = draws.shape
    picks = np.random.default_rng(seed).integers(0, count, (count, columns))
    mean: Array = np.take_along_axis(draws, picks, axis=0).mean(axis=0)
    return mean


def interval(draws: Array, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Ends of the percentile interval of (seeds, draws), undefined draws left out."""
    low, high = np.nanquantile(over_seeds(draws, seed), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def difference(a: Array, b: Array, seeds: tuple[Sequence[int], Sequence[int]]) -> Array:
    """Draws (draws,) of `a - b`, each (seeds, draws) under the same draws of groups.

    Runs of equal seeds are taken in pairs; where the seeds are not the same, those of each side are drawn on their own.
    """
    if list(seeds[0]) == list(seeds[1]):
        return over_seeds(a - b)
    return over_seeds(a, seed=0) - over_seeds(b, seed=1)
