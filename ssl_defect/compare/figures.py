"""What the drawings of a comparison show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssl_defect.compare import charts
from ssl_defect.compare.charts import Differences, Spot
from ssl_defect.compare.measure import METRICS, Against, Measured, difference, outside, paired
from ssl_defect.compare.runs import Arm, Run
from ssl_defect.compare.table import change, mean_cost, ordered, quality
from ssl_defect.report.numbers import shown
from ssl_defect.report.svg import swatch

ALL = float("inf")  # the budget of a run that had every label
Lines = dict[str, dict[float, Measured]]  # initialisation -> budget -> what was measured


def differences(found: Sequence[Measured], against: Against, main: str) -> list[dict[str, Any]]:
    """Paired differences by the main metric, a drawing per baseline, all on one scale."""
    bases = [base for base in found if against.get(base) is base]
    drawn = [(base, rows) for base in bases if (rows := _differences(found, against, base, main))]
    ends = charts.reach([rows for _, rows in drawn]) if drawn else (0.0, 0.0)
    label = f"{METRICS[main]}, difference from the baseline"
    return [
        {
            "title": base.arm.name,
            "figure": charts.differences(
                rows,
                label,
                f"Difference in {METRICS[main]} from {base.arm.name} with its interval, for {len(rows)} others.",
                ends,
            ),
        }
        for base, rows in drawn
    ]


def _differences(found: Sequence[Measured], against: Against, base: Measured, main: str) -> Differences:
    rows = []
    for one in ordered([one for one in found if against.get(one) is base], main):
        entry = difference(one, against, main)
        if entry and entry["value"] is not None:
            spot = Spot(0, entry["value"], entry["low"], entry["high"])
            rows.append((one.arm.name, spot, outside(entry)))
    return rows


def efficiency(found: Sequence[Measured], base: Arm, main: str) -> dict[str, Any]:
    """Curves and a table over the number of labels, where an initialisation was run with two budgets or more."""
    lines = _lines(found)
    if not lines:
        return {}
    budgets = sorted({budget for line in lines.values() for budget in line})
    texts = ["all" if budget == ALL else f"{budget:g}" for budget in budgets]
    base_line = next((name for name, line in lines.items() if any(one.arm is base for one in line.values())), "")
    plots = []
    for metric in dict.fromkeys((main, "image auroc")):
        spots = [_spots(line, budgets, metric) for line in lines.values()]
        if any(spots):
            alt = f"{METRICS[metric]} over {len(budgets)} numbers of labels per class, a line per initialisation."
            plots.append({"title": METRICS[metric], "figure": charts.efficiency(spots, texts, METRICS[metric], alt)})
    rows = [
        {
            "budget": text,
            "sort": 1e9 if budget == ALL else budget,
            "cells": [_cell(name, lines, base_line, budget, main) for name in lines],
        }
        for budget, text in zip(budgets, texts, strict=True)
    ]
    legend = [(swatch(number), name) for number, name in enumerate(lines)]
    return {"plots": plots, "legend": legend, "heads": list(lines), "rows": rows, "baseline": base_line}


def _lines(found: Sequence[Measured]) -> Lines:
    """Arms that differ in their number of labels alone, by budget; those of one budget are left out."""
    grouped: dict[str, list[Measured]] = {}
    for one in found:
        if one.arm.first.task == "anomaly":  # learns from good images alone, whatever the budget of labels
            continue
        settings = {key: value for key, value in one.arm.first.settings.items() if key != "finetune.labels_per_class"}
        grouped.setdefault(repr(settings), []).append(one)
    kept = [line for line in grouped.values() if len({_budget(one.arm) for one in line}) > 1]
    names = [line[0].arm.first.method for line in kept]
    origins = [f"{name}, from {_origin(line[0].arm.first)}" for name, line in zip(names, kept, strict=True)]
    for choice in (names, origins, [f"{line[0].arm.name} and like it" for line in kept]):
        if len(set(choice)) == len(choice):
            return {
                name: {_budget(one.arm): one for one in reversed(line)} for name, line in zip(choice, kept, strict=True)
            }
    return {}


def _origin(run: Run) -> str:
    return str(run.records.pretrain.get("origin") or run.records.pretrain.get("start") or "random")


def _budget(arm: Arm) -> float:
    return ALL if arm.first.budget is None else float(arm.first.budget)


def _spots(line: dict[float, Measured], budgets: Sequence[float], metric: str) -> list[Spot]:
    return [
        spot for place, budget in enumerate(budgets) if budget in line and (spot := _spot(place, line[budget], metric))
    ]


def _spot(x: float | None, one: Measured, metric: str) -> Spot | None:
    entry = one.entries.get(metric) or {}
    if x is None or entry.get("value") is None:
        return None
    return Spot(x, entry["value"], entry.get("low"), entry.get("high"))


def _cell(name: str, lines: Lines, base: str, budget: float, main: str) -> dict[str, Any]:
    one, other = lines[name].get(budget), lines.get(base, {}).get(budget)
    if one is None:
        return {"value": quality(None), "change": None}
    if other is None or one is other:
        return {"value": quality(one.entries.get(main)), "change": None}
    return {"value": quality(one.entries.get(main)), "change": change(paired(one, other, main))}


def costs(found: Sequence[Measured], main: str) -> dict[str, Any]:
    """Quality against minutes of training and against ms per image, with one legend."""
    best = ordered(found, main)
    costs = [mean_cost(one.arm) for one in best]
    minutes = [_sum(cost["pretraining"], cost["training"]) for cost in costs]
    axes = (
        ("Minutes of pretraining and fine-tuning", minutes),
        ("Milliseconds per image", [cost["speed"] for cost in costs]),
    )
    plots = []
    for label, values in axes:
        spots = [_spot(value, one, main) for value, one in zip(values, best, strict=True)]
        if sum(spot is not None for spot in spots) > 1:
            alt = f"{METRICS[main]} against {label.lower()}: " + "; ".join(
                f"{one.arm.name} {shown(spot.value)} at {spot.x:.1f}"
                for one, spot in zip(best, spots, strict=True)
                if spot
            )
            plots.append({"title": label, "figure": charts.cost(spots, (label.lower(), METRICS[main]), alt)})
    return {"plots": plots, "legend": [(swatch(number), one.arm.name) for number, one in enumerate(best)]}


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
