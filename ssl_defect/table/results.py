"""The results of a table: every cell and metric with its interval, difference, corrected p, and whether it won."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ssl_defect.table.average import average
from ssl_defect.table.expand import Cell, baseline_of, shown
from ssl_defect.table.measure import Entry, Measured, better, paired
from ssl_defect.table.settings import PublishedValue, TableSettings
from ssl_defect.table.statistics import Ranked, friedman, holm, sign_flip_p


@dataclass(eq=False)
class Result:
    """One metric of one cell.

    Attributes:
        state: `finished`, `failed` or `not run`; `reason` says why not.
        entry: "value", "low", "high" and "sd" over seeds; None unless finished.
        change: from the baseline: "value", "low", "high", "p" and "holm", the p corrected; None where there is none.
        verdict: `better` or `worse` than the baseline where the difference says so, else empty.
        winner: best of its group, and by more than chance against each other of the group.
        published: number of the source, figure and error, as shares or as the source's unit has them.
    """

    cell: Cell
    metric: str
    state: str = "not run"
    reason: str = ""
    seeds: int = 0
    entry: Entry | None = None
    change: Entry | None = None
    verdict: str = ""
    winner: bool = False
    published: list[tuple[int, float, float | None]] = field(default_factory=list)


@dataclass(eq=False)
class Results:
    """All results of a table, in the order of its cells, metric by metric, and Friedman's test of each metric."""

    table: TableSettings
    cells: list[Cell]
    measured: dict[str, Measured]
    every: list[Result]
    ranked: dict[str, Ranked]
    overall: dict[str, list[dict[str, Any]]]

    def of(self, metric: str) -> list[Result]:
        """Those of one metric, in the order of the cells."""
        return [one for one in self.every if one.metric == metric]

    def corrected_over(self, metric: str, of_means: bool) -> int:
        """How many differences Holm's correction of a metric is for: those of cells, or of means over cells."""
        told = [one for one in self.of(metric) if one.change and one.change.get("p") is not None]
        return sum(bool(one.cell.over) == of_means for one in told)


def judge(
    table: TableSettings, cells: list[Cell], measured: dict[str, Measured], failed: dict[str, str], planned: int
) -> Results:
    """Compare, correct and rank.

    Args:
        cells: those with runs of their own, and means of these.
        measured: of the cells with a finished run, by the cell's name.
        failed: the reason, by the cell's name.
        planned: number of seeds that each cell should have.
    """
    measured = measured | {cell.name: mean for cell in cells if cell.over and (mean := average(cell, measured))}
    every = [_result(cell, metric, measured, failed, planned, table) for metric in table.metrics for cell in cells]
    found = Results(table, cells, measured, every, {}, {})
    alpha = round(1 - table.level, 9)
    for metric in table.metrics:
        own, means = ([one for one in found.of(metric) if bool(one.cell.over) == kind] for kind in (False, True))
        _compare(own, cells, measured, table)
        _compare(means, cells, measured, table)
        for group in groups(found.of(metric), table):
            _crown(group, measured, table)
        for one, value in zip(own, _figures(own, table, metric), strict=True):
            one.published = value
        _rank(found, metric, alpha)
    return found


def _result(
    cell: Cell,
    metric: str,
    measured: dict[str, Measured],
    failed: dict[str, str],
    planned: int,
    table: TableSettings,
) -> Result:
    found = measured.get(cell.name)
    reason = failed.get(cell.name, "")
    if found is None:
        return Result(cell, metric, "failed" if reason else "not run", reason)
    if len(found.seeds) < planned and not reason:
        reason = f"{len(found.seeds)} of {planned} seeds are finished"
    return Result(cell, metric, "finished", reason, len(found.seeds), found.entry(metric, table.level))


def _compare(some: list[Result], cells: list[Cell], measured: dict[str, Measured], table: TableSettings) -> None:
    """Differences from the baseline, corrected over all of these."""
    for one in some:
        base = baseline_of(one.cell, cells, table)
        if base and base.name in measured and one.cell.name in measured:
            one.change = paired(measured[one.cell.name], measured[base.name], one.metric, table.level)
    changed = [one.change for one in some if one.change]
    for entry, corrected in zip(changed, holm([entry["p"] for entry in changed]), strict=True):
        entry["holm"] = corrected
    for one in some:
        change = one.change
        if change and change["holm"] is not None and change["holm"] < 1 - table.level and _leaves_zero(change):
            one.verdict = "better" if change["value"] * better(one.metric) > 0 else "worse"


def _leaves_zero(change: Entry) -> bool:
    return change["low"] is not None and (change["low"] > 0 or change["high"] < 0)


def groups(some: Iterable[Result], table: TableSettings) -> list[list[Result]]:
    """Cells that differ in the axes of the baseline alone (in those of the rows where there is none)."""
    free = set(table.baseline) or set(table.rows) or set(table.matrix) - set(table.columns)
    found: dict[tuple[str, ...], list[Result]] = {}
    for one in some:
        key = tuple(value for axis, value in one.cell.labels.items() if axis not in free)
        found.setdefault(key, []).append(one)
    return list(found.values())


def _crown(group: list[Result], measured: dict[str, Measured], table: TableSettings) -> None:
    """Mark the best of a group where its difference from each other one, corrected, leaves no doubt."""
    there = [one for one in group if one.entry and one.entry["value"] is not None]
    if len(there) < 2:
        return
    sign = better(there[0].metric)
    best = max(there, key=lambda one: sign * _value(one))
    mine = measured[best.cell.name]
    changes = [
        paired(mine, measured[one.cell.name], best.metric, table.level) for one in there if one.cell is not best.cell
    ]
    corrected = holm([change["p"] for change in changes])
    sure = [p is not None and p < 1 - table.level for p in corrected]
    best.winner = all(sure) and all(_leaves_zero(c) and sign * c["value"] > 0 for c in changes)


def _value(one: Result) -> float:
    return float(one.entry["value"]) if one.entry and one.entry["value"] is not None else float("nan")


def _figures(some: list[Result], table: TableSettings, metric: str) -> list[list[tuple[int, float, float | None]]]:
    return [
        [
            (number, *scaled(value, block.unit))
            for number, block in enumerate(table.published, 1)
            if block.metric == metric
            for value in block.values
            if matches(value, one.cell)
        ]
        for one in some
    ]


def scaled(value: PublishedValue, unit: str) -> tuple[float, float | None]:
    """A published figure and its error as shares."""
    by = 0.01 if unit == "percent" else 1.0
    return value.value * by, None if value.error is None else value.error * by


def matches(value: PublishedValue, cell: Cell) -> bool:
    """Whether a published figure stands beside this cell."""
    return all(cell.labels[axis] == shown(axis, wanted) for axis, wanted in value.at.items())


def _rank(found: Results, metric: str, alpha: float) -> None:
    """Friedman's test over the sets, each treatment's value in a set the mean over all other axes."""
    table = found.table
    axis, treatments = table.sets, [name for name in table.baseline if name != table.sets]
    if not axis or not treatments:
        return
    values: dict[str, dict[str, list[float]]] = {}
    for one in (one for one in found.of(metric) if not one.cell.over):
        name = ", ".join(one.cell.labels[key] for key in treatments)
        values.setdefault(name, {}).setdefault(one.cell.labels[axis], []).append(_value(one))
    values = {name: one for name, one in values.items() if np.isfinite([x for xs in one.values() for x in xs]).any()}
    sets = [
        name
        for name in (_common(values) if values else [])
        if all(np.isfinite(values[one][name]).all() for one in values)
    ]
    if len(sets) < 2 or len(values) < 2:
        return
    names = list(values)
    matrix = better(metric) * np.array([[np.mean(values[name][one]) for name in names] for one in sets])
    found.ranked[metric] = friedman(names, matrix, alpha)
    base = ", ".join(shown(key, table.baseline[key]) for key in treatments)
    if base in names:
        found.overall[metric] = _over_sets(names, matrix - matrix[:, [names.index(base)]], base)


def _common(values: dict[str, dict[str, list[float]]]) -> list[str]:
    """Sets in which every treatment has as many cells."""
    first, *others = values.values()
    return [name for name in first if all(len(one.get(name, [])) == len(first[name]) for one in others)]


def _over_sets(names: Sequence[str], differences: Any, base: str) -> list[dict[str, Any]]:
    """Mean difference from the baseline over the sets, and its sign-flip p, corrected."""
    rows = [
        {"name": name, "value": float(differences[:, i].mean()), "p": sign_flip_p(differences[:, i])}
        for i, name in enumerate(names)
        if name != base
    ]
    return [row | {"holm": p} for row, p in zip(rows, holm([float(str(row["p"])) for row in rows]), strict=True)]
