"""Means of cells over values of some axes: one difference a row, over all its budgets of labels for instance."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from ssl_defect.errors import UserError, nearest
from ssl_defect.table.expand import Cell, described, shown
from ssl_defect.table.measure import VARIOUS, Array, Measured, common
from ssl_defect.table.settings import TableSettings


def means_of(table: TableSettings, cells: Sequence[Cell], where: str = "table") -> list[Cell]:
    """A cell for each mean that `average` asks for; it has the cells of its values in `over`. None without `average`.

    Where a value of the mean was left out of the matrix there is no mean.

    Raises:
        UserError: an unknown value, or not one mean can be taken.
    """
    if not table.average:
        return []
    wanted = _wanted(table, cells, where)
    names = {axis: f"mean of {', '.join(values)}" for axis, values in wanted.items()}
    of = {tuple(cell.labels.values()): cell for cell in cells}
    found = []
    for labels in dict.fromkeys(tuple((cell.labels | names).items()) for cell in cells):
        places = [wanted.get(axis, [value]) for axis, value in labels]
        over = tuple(of[place] for place in itertools.product(*places) if place in of)
        if len(over) == np.prod([len(values) for values in wanted.values()]):
            found.append(Cell(dict(labels), "-".join(value.replace("-", "_") for _, value in labels), {}, over))
    if not found:
        raise UserError(f"{where}: average: no row has all of {'; '.join(names.values())}; take out what it lacks")
    return found


def _wanted(table: TableSettings, cells: Sequence[Cell], where: str) -> dict[str, list[str]]:
    wanted = {axis: [shown(axis, value) for value in values] for axis, values in table.average.items()}
    for axis, values in wanted.items():
        known = list(dict.fromkeys(cell.labels[axis] for cell in cells))
        for value in values:
            if value not in known:
                accepted = f"accepted: {', '.join(known)}{nearest(value, known)}"
                raise UserError(f"{where}: average.{axis}: '{value}' is none of its values; {accepted}")
    return wanted


def average(mean: Cell, measured: Mapping[str, Measured]) -> Measured | None:
    """Each metric's mean over the cells of `mean`, seed by seed; None before all of them have a seed in common.

    All are tested on the same images, so what leaving out a block of their groups does to the mean is the mean of what
    it does to each. Costs and facts are the cells' own.
    """
    there = [measured[cell.name] for cell in mean.over if cell.name in measured]
    seeds = sorted(set.intersection(*(set(one.seeds) for one in there))) if len(there) == len(mean.over) else []
    if not seeds:
        return None
    same = len({one.tested_on for one in there}) == 1
    rows = [[one.seeds.index(seed) for seed in seeds] for one in there]
    kept = set.intersection(*(set(one.without) for one in there)) if same else set()
    return Measured(
        cell=mean,
        seeds=seeds,
        points={name: _mean([one.points[name] for one in there], rows) for name in there[0].points},
        without={name: _mean([one.without[name] for one in there], rows) for name in sorted(kept)},
        tested_on=there[0].tested_on if same else VARIOUS,
        apart={name: f"{described(one.cell.labels)}: {why}" for one in there for name, why in one.apart.items()},
        costs=[],
        validation=_mean([one.validation.T for one in there], rows).T,
        chosen_by=common([one.chosen_by for one in there]),
    )


def _mean(values: Sequence[Array], rows: Sequence[Sequence[int]]) -> Array:
    """Over the cells, of the rows that each has for the same seeds."""
    return np.asarray(np.mean([value[row] for value, row in zip(values, rows, strict=True)], axis=0))
