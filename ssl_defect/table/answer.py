"""What a table answers, in sentences: what is best, by how much, with how few labels, and where that detector lies."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_defect.artifacts import read_json
from ssl_defect.report.endings import too_short
from ssl_defect.table.expand import Cell, baseline_of
from ssl_defect.table.layout import title
from ssl_defect.table.measure import Entry, better, paired
from ssl_defect.table.results import Result, Results, groups
from ssl_defect.table.settings import VALIDATION

Folders = Mapping[str, Sequence[Path]]  # name of a cell -> folders of its finished runs
ALL = "all"  # how a budget without bound is written
_OF_ONE_SEED = (
    "Where a cell has one seed alone, its intervals and p know the chance of the test images, not that of training: "
    "the next seed may turn it round."
)
_OF_FOLDS = (
    "A detector of a fold has learned nothing from that fold's pictures: `--set folds=0` and another `--out` make one "
    "that spares fewer."
)


def answers(results: Results, folders: Folders) -> list[str]:
    """A sentence per group of cells that differ in the axes of the baseline alone, then one on labels saved.

    By the first metric of the table. None for a table without a baseline, or where a group has no second cell, or of
    validation: what it shows is for choosing.
    """
    if not results.table.baseline or results.table.metrics[0] == VALIDATION:
        return []
    asked = [
        (group, base)
        for group in groups(results.of(results.table.metrics[0]), results.table)
        if (base := _base(group, results)) is not None and sum(map(_known, group)) > 1
    ]
    found = [_answer(group, base, results, folders) for group, base in asked]
    saved = _labels_saved(asked, results)
    if not found:
        return []
    return [
        *found,
        *([saved] if saved else []),
        "Each best was chosen by these test images, which flatters its own value; differences are corrected for the "
        "number of rows (Holm).",
        *([_OF_ONE_SEED] if any(len(one.seeds) == 1 for one in results.measured.values()) else []),
        *unfinished(results),
        *([_OF_FOLDS] if results.table.folds else []),
    ]


def unfinished(results: Results) -> list[str]:
    """Warnings where fine-tunings may not have had enough steps, or patience."""
    return too_short([fact["ending"] for one in results.measured.values() for fact in one.facts])


def _known(one: Result) -> bool:
    return one.entry is not None and one.entry["value"] is not None


def _base(group: Sequence[Result], results: Results) -> Result | None:
    """The finished baseline of a group."""
    for one in group:
        base = baseline_of(one.cell, results.cells, results.table)
        found = [other for other in group if base and other.cell is base and _known(other)]
        if found:
            return found[0]
    return None


def _best(group: Sequence[Result]) -> Result:
    return max(filter(_known, group), key=lambda one: better(one.metric) * _value(one))


def _value(one: Result) -> float:
    assert one.entry is not None
    return float(one.entry["value"])


def _answer(group: Sequence[Result], base: Result, results: Results, folders: Folders) -> str:
    best, where = _best(group), _place(base.cell, results)
    name, against = _row(best.cell, results), _row(base.cell, results)
    if best is base:
        text = f"{where}nothing is better than {against} by {base.metric} ({_value(base):.3f})"
    elif best.verdict == "better" and best.change:
        text = (
            f"{where}{name} is best by {best.metric}, {_value(best):.3f}: {_difference(best.change)} over {against}, "
            f"corrected p {best.change['holm']:.2g}"
        )
    else:
        text = f"{where}{name} has the highest {best.metric}, {_value(best):.3f}, and is not shown to be better than "
        text += f"{against}{f' ({_difference(best.change)}{_corrected(best.change)})' if best.change else ''}"
    detector = _detector(folders.get(best.cell.name, []))
    return f"{text}. That detector: `ssl-defect predict {detector} PICTURES --out FOLDER`" if detector else f"{text}."


def _difference(entry: Entry) -> str:
    value, low, high = (entry[key] for key in ("value", "low", "high"))
    if value is None:
        return f"no difference can be given, {entry.get('why', 'undefined')}"
    return f"{value:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")


def _corrected(entry: Entry) -> str:
    return "" if entry.get("holm") is None else f", corrected p {entry['holm']:.2g}"


def _row(cell: Cell, results: Results) -> str:
    return ", ".join(cell.labels[axis] for axis in results.table.baseline)


def _place(cell: Cell, results: Results) -> str:
    """`labels per class 5: `, of the axes that the baseline leaves open."""
    free = [axis for axis in cell.labels if axis not in results.table.baseline]
    return ", ".join(f"{title(axis)} {cell.labels[axis]}" for axis in free) + (": " if free else "")


def _detector(runs: Sequence[Path]) -> str:
    """Of the seeds the one that is best on validation; the first where validation does not say."""
    scored = [(read_json(run / "finetune" / "finetune.json").get("best_validation"), run) for run in runs]
    known = [(value, -place) for place, (value, _) in enumerate(scored) if value is not None]
    return shlex.quote(str(runs[-max(known)[1]] if known else runs[0])) if runs else ""


def _labels_saved(asked: Sequence[tuple[Sequence[Result], Result]], results: Results) -> str:
    """The fewest labels with which a row reaches what the baseline reaches with the most that it was given."""
    found = [(budget, group, base) for group, base in asked if (budget := _budget(base.cell, results)) is not None]
    if len(found) < 2:
        return ""
    found.sort(key=lambda one: one[0])
    most, _, base = found[-1]
    for budget, group, _ in found[:-1]:
        best, sign = _best(group), better(base.metric)
        if sign * _value(best) >= sign * _value(base):
            mine, theirs = results.measured[best.cell.name], results.measured[base.cell.name]
            if mine.seeds != theirs.seeds:
                return ""  # their means are not of the same runs
            change = _difference(paired(mine, theirs, base.metric, results.table.level))
            return (
                f"{_row(best.cell, results)} with {_count(budget)} per class has {base.metric} {_value(best):.3f}, "
                f"{_row(base.cell, results)} with {_count(most)} {_value(base):.3f}: {change}."
            )
    return ""


def _budget(cell: Cell, results: Results) -> float | None:
    """Labels per class of a cell: the one value that the baseline leaves open, where it is a number or `all`."""
    free = [cell.labels[axis] for axis in cell.labels if axis not in results.table.baseline]
    if len(free) != 1 or not (free[0] == ALL or free[0].isdecimal()):
        return None
    return float("inf") if free[0] == ALL else float(free[0])


def _count(budget: float) -> str:
    return "all labels" if budget == float("inf") else f"{budget:g} label{'' if budget == 1 else 's'}"
