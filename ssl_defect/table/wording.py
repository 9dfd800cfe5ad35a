"""How an answer names a row, a place in the table, a number of labels and a difference."""

from __future__ import annotations

from ssl_defect.table.expand import Cell
from ssl_defect.table.layout import number, title
from ssl_defect.table.measure import Entry
from ssl_defect.table.results import Result, Results

LABELS = "finetune.labels_per_class"


def row(cell: Cell, results: Results) -> str:
    """What the baseline is told apart from others by."""
    return ", ".join(cell.labels[axis] for axis in results.table.baseline)


def place(cell: Cell, results: Results) -> str:
    """`5 labels per class: `, or the values of the axes that the baseline leaves open; empty where it leaves none."""
    free = [axis for axis in cell.labels if axis not in results.table.baseline]
    if not free:
        return ""
    budget = budget_of(cell, results)
    told = ", ".join(f"{title(axis)} {cell.labels[axis]}" for axis in free) if budget is None else labels(budget)
    return f"{told}: "


def budget_of(cell: Cell, results: Results) -> float | None:
    """Labels per class of a cell, infinite where it has all, where they are all that the baseline leaves open."""
    free = [axis for axis in cell.labels if axis not in results.table.baseline]
    if len(free) != 1 or LABELS not in cell.settings or cell.over:
        return None
    return float(cell.settings[LABELS] or "inf")


def labels(budget: float) -> str:
    """`5 labels per class`"""
    return "all labels" if budget == float("inf") else f"{budget:g} label{'' if budget == 1 else 's'} per class"


def mean(one: Result, results: Results) -> str:
    """Of a result's seeds, in the unit of the table; a dash where there is none."""
    return number(one.entry["value"] if one.entry else None, results.table, metric=one.metric)


def difference(entry: Entry, metric: str, results: Results) -> str:
    """`+0.020 (-0.023 to +0.063)` in the unit of the table, or why there is none."""
    value, low, high = (entry.get(key) for key in ("value", "low", "high"))
    if value is None:
        return f"no difference can be given, {entry.get('why', 'undefined')}"
    least, most, ours = (number(one, results.table, True, metric) for one in (low, high, value))
    return ours if low is None else f"{ours} ({least} to {most})"


def corrected(p: float | None, over: int, what: str) -> str:
    """`, p 0.0495 corrected over 6 choices`: a p says nothing without the number of those that it was corrected for."""
    return "" if p is None else f", p {p:.3g} corrected over {over} {what}{'' if over == 1 else 's'}"
