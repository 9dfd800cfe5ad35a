"""A cell tested on every fold in turn: the mean over the folds, and its chance over the test groups of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssl_defect.artifacts import digest
from ssl_defect.table.measure import VARIOUS, Measured, common


def over_folds(folds: Sequence[Measured]) -> Measured:
    """The same seeds of a cell on K folds, put together; a metric of one fold is that of the cell as it is.

    A metric is the mean over the folds, of each seed. Leaving out a block of test groups moves that of its own fold
    alone, and the mean by a K-th of it; so the jackknife's variance of the mean is the sum of those of the folds / K^2.
    The folds' training pictures overlap, and what other training pictures would give is not in it, as with one split.

    Args:
        folds: K of them, at least one, each of the same seeds.
    """
    first = folds[0]
    if len(folds) == 1:
        return first
    points = {name: np.mean([fold.points[name] for fold in folds], axis=0) for name in first.points}
    without = {}
    for name, mean in points.items():
        if all(name in fold.without for fold in folds):
            moved = [fold.without[name] - fold.without[name].mean(axis=1, keepdims=True) for fold in folds]
            without[name] = mean[:, None] + np.concatenate(moved, axis=1) / len(folds)
    return Measured(
        cell=first.cell,
        seeds=first.seeds,
        points=points,
        without=without,
        tested_on=VARIOUS if any(fold.tested_on == VARIOUS for fold in folds) else digest([f.tested_on for f in folds]),
        apart={name: f"fold {k}, {why}" for k, fold in enumerate(folds, 1) for name, why in fold.apart.items()},
        costs=[cost for fold in folds for cost in fold.costs],
        validation=np.concatenate([fold.validation for fold in folds]),
        chosen_by=common([fold.chosen_by for fold in folds]),
        facts=[fact for fold in folds for fact in fold.facts],
    )
