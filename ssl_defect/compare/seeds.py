"""The chance of the test set and of the training together: variances over near-copy groups and over seeds.

The mean over n seeds varies with the groups of test images, by as much as leaving out each group moves that mean, and
with the seeds, by their variance / n; both are added as `evaluate.spread` says. What seeds and groups do together is in
both variances, so that the sum is rather too large than too small. Drawing seeds as one draws groups (a crossed
bootstrap: Owen, Annals of Applied Statistics 1 (2007) 386) gives two or three seeds too small a variance, and does not
tell that it is uncertain. A single seed says nothing of the training: the interval is then over test groups alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ssl_defect.evaluate.spread import Part, ends, of_groups, of_seeds

Array = npt.NDArray[np.float64]


def parts(points: Array, without: Array) -> list[Part]:
    """Parts of the variance of a mean over seeds.

    Args:
        points: (seeds,) the metric, or the paired difference of two detectors, of each seed.
        without: (seeds, blocks) the same without each block of test groups in turn.
    """
    groups = of_groups(without.mean(axis=0))
    return [groups, of_seeds(points)] if len(points) > 1 else [groups]


def parts_of_difference(
    points: tuple[Array, Array], without: tuple[Array, Array], seeds: tuple[Sequence[int], Sequence[int]]
) -> list[Part]:
    """Parts of the variance of the difference of two means over seeds, tested on the same images.

    Runs of equal seeds are taken in pairs; where the seeds are not the same, those of each side vary on their own.
    """
    if list(seeds[0]) == list(seeds[1]):
        return parts(points[0] - points[1], without[0] - without[1])
    groups = of_groups(without[0].mean(axis=0) - without[1].mean(axis=0))
    return [groups, *(of_seeds(side) for side in points if len(side) > 1)]


def interval(points: Array, without: Array, level: float = 0.95) -> tuple[float, float]:
    """Ends of the interval of the mean over seeds of `points` (seeds,); `without` (seeds, blocks) as for `parts`."""
    return ends(float(points.mean()), parts(points, without), level)
