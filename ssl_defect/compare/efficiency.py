"""Quality over the number of labels, or of good images, where runs differ in nothing else: curves and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from ssl_defect.compare import charts
from ssl_defect.compare.charts import Spot, spot
from ssl_defect.compare.measure import METRICS, Measured, paired
from ssl_defect.compare.runs import Arm, Run
from ssl_defect.compare.table import change, quality
from ssl_defect.report.svg import swatch

ALL = float("inf")  # the budget of a run that had all there were
Lines = dict[str, dict[float, Measured]]  # who learns -> budget -> what was measured


@dataclass(frozen=True)
class Kind:
    """What there may be few of.

    Attributes:
        title: of the section; `short`: of its link and of the table's column.
        unit: what the axis counts.
        setting: the only one in which the runs of a line differ.
    """

    name: str
    title: str
    short: str
    unit: str
    setting: str

    def budget(self, arm: Arm) -> float:
        """How many the arm had."""
        found = arm.first.budget if self.name == "labels" else arm.first.good_images
        return ALL if found is None else float(found)

    def of(self, arm: Arm) -> bool:
        """Whether the arm learns from these: detectors from good images alone have no labels to count."""
        return (arm.first.task == "anomaly") == (self.name == "good")


KINDS = (
    Kind("labels", "How few labels", "Labels", "labelled images per class", "finetune.labels_per_class"),
    Kind("good", "How few good images", "Good images", "good images", "anomaly.options.images"),
)


def efficiency(found: Sequence[Measured], base: Arm, main: str) -> list[dict[str, Any]]:
    """Of each kind the curves and a table, where somebody learnt from two budgets or more."""
    return [told for kind in KINDS if (told := _section(kind, found, base, main))]


def _section(kind: Kind, found: Sequence[Measured], base: Arm, main: str) -> dict[str, Any]:
    found = [one for one in found if kind.of(one.arm)]
    lines = _lines(kind, found)
    if not lines:
        return {}
    budgets = sorted({budget for line in lines.values() for budget in line})
    texts = ["all" if budget == ALL else f"{budget:g}" for budget in budgets]
    base_line = next((name for name, line in lines.items() if any(one.arm is base for one in line.values())), "")
    plots = []
    for metric in dict.fromkeys((main, "image auroc")):
        spots = [_spots(line, budgets, metric) for line in lines.values()]
        if any(spots):
            alt = f"{METRICS[metric]} over {len(budgets)} numbers of {kind.unit}, a line each for {len(lines)}."
            figure = charts.efficiency(spots, texts, (kind.unit, METRICS[metric]), alt)
            plots.append({"title": METRICS[metric], "figure": figure})
    rows = [
        {
            "budget": text,
            "sort": 1e9 if budget == ALL else budget,
            "cells": [_cell(name, lines, base_line, budget, main) for name in lines],
        }
        for budget, text in zip(budgets, texts, strict=True)
    ]
    legend = [(swatch(number), name) for number, name in enumerate(lines)]
    return {
        "kind": kind,
        "plots": plots,
        "banded": len(lines) <= charts.BANDS,
        "legend": legend,
        "heads": list(lines),
        "rows": rows,
        "baseline": base_line,
        "left_out": _left_out(kind, found, lines),
    }


def _lines(kind: Kind, found: Sequence[Measured]) -> Lines:
    """Arms that differ in their budget alone, by budget; those of one budget are left out."""
    grouped: dict[str, list[Measured]] = {}
    for one in found:
        settings = {key: value for key, value in one.arm.first.settings.items() if key != kind.setting}
        grouped.setdefault(repr(settings), []).append(one)
    kept = [line for line in grouped.values() if len({kind.budget(one.arm) for one in line}) > 1]
    firsts = [line[0].arm.first for line in kept]
    methods = [one.method for one in firsts]
    origins = [f"{one.method}, from {_origin(one)}" for one in firsts]
    detectors = [one.detector.removeprefix("anomaly: ") for one in firsts]
    both = [f"{method}, {detector}" for method, detector in zip(methods, detectors, strict=True)]
    choices = (methods, origins) if kind.name == "labels" else (detectors, both)
    for choice in (*choices, [_stem(line) for line in kept], [f"{line[0].arm.name} and like it" for line in kept]):
        if len(set(choice)) == len(choice):
            return {
                name: {kind.budget(one.arm): one for one in reversed(line)}
                for name, line in zip(choice, kept, strict=True)
            }
    return {}


def _stem(line: Sequence[Measured]) -> str:
    """What the names of a line begin with, whole parts between hyphens: `mae` of `mae-5` and `mae-10`."""
    parts = zip(*(one.arm.name.split("-") for one in line), strict=False)
    return "-".join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts))


def _left_out(kind: Kind, found: Sequence[Measured], lines: Lines) -> str:
    """`all (other finetune.steps)`: budgets whose runs are as those of a line but for more than the budget."""
    drawn = {one for line in lines.values() for one in line.values()}
    firsts = [next(iter(line.values())).arm.first.settings for line in lines.values()]
    left: dict[float, set[str]] = {}
    for one in found:
        mine = one.arm.first.settings
        apart = min((_apart(mine, other) - {kind.setting} for other in firsts), key=len)
        if one not in drawn and not any(key.startswith(("pretrain.", "model.")) for key in apart):
            left.setdefault(kind.budget(one.arm), set()).update(apart)
    return "; ".join(
        f"{'all' if budget == ALL else f'{budget:g}'} (other {', '.join(sorted(keys))})"
        for budget, keys in sorted(left.items())
    )


def _apart(mine: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key)}


def _origin(run: Run) -> str:
    return str(run.records.pretrain.get("origin") or run.records.pretrain.get("start") or "random")


def _spots(line: dict[float, Measured], budgets: Sequence[float], metric: str) -> list[Spot]:
    placed = [(place, line[budget]) for place, budget in enumerate(budgets) if budget in line]
    return [found for place, one in placed if (found := spot(place, one.entries.get(metric)))]


def _cell(name: str, lines: Lines, base: str, budget: float, main: str) -> dict[str, Any]:
    one, other = lines[name].get(budget), lines.get(base, {}).get(budget)
    if one is None:
        return {"value": quality(None), "change": None}
    if other is None or one is other:
        return {"value": quality(one.entries.get(main)), "change": None}
    return {"value": quality(one.entries.get(main)), "change": change(paired(one, other, main))}
