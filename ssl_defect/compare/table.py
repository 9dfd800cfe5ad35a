"""The tables of a comparison: a row per arm with quality, difference and cost; and the differences in every metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ssl_defect.compare.measure import METRICS, Against, Entry, Measured, difference, outside, recorded
from ssl_defect.compare.runs import KINDS, Arm
from ssl_defect.report.numbers import ABSENT, counted, listed, shown

HIDDEN = {"pretrain.method", "finetune.task", "finetune.labels_per_class", "model.backbone", "anomaly.detector"}
HIDDEN |= {f"finetune.options.{key}" for key in KINDS}
SHOWN_SETTINGS = 3
COSTS = (
    ("pretraining", "Pre-training, min", 1),
    ("training", "Fine-tuning, min", 1),
    ("memory", "Peak memory, MB", 0),
    ("speed", "ms per image", 1),
    ("size", "Model file, MB", 1),
)
Cell = dict[str, Any]  # "text", and "sort": a number, or None where it is undefined


def runs_table(found: Sequence[Measured], against: Against, main: str) -> dict[str, Any]:
    """Heads and rows of the table of arms, the best by `main` first."""
    metrics = [main, *(name for name in METRICS if name != main and any(name in one.entries for one in found))]
    extra = _task_columns([one.arm for one in found])
    what = differing([one.arm for one in found])
    rows = [_row(one, against, metrics, extra, what[one.arm.name]) for one in ordered(found, main)]
    return {
        "heads": [METRICS[metrics[0]], "Difference", *(METRICS[name] for name in metrics[1:]), *extra.values()],
        "costs": [name for _, name, _ in COSTS],
        "rows": rows,
    }


def ordered(found: Sequence[Measured], main: str) -> list[Measured]:
    """Best by `main` first; those without it last."""

    def key(one: Measured) -> tuple[bool, float]:
        value = one.entries.get(main, {}).get("value")
        return value is None, -(value or 0.0)

    return sorted(found, key=key)


def _row(
    one: Measured, against: Against, metrics: list[str], extra: dict[str, str], differs: list[str]
) -> dict[str, Any]:
    arm, cost = one.arm, mean_cost(one.arm)
    cells = [quality(one.entries.get(name)) for name in metrics]
    cells.insert(1, change(difference(one, against, metrics[0])))
    return {
        "name": arm.name,
        "differs": differs,
        "baseline": against.get(one) is one,
        "facts": [
            {"text": arm.first.method, "sort": None},
            {"text": arm.first.detector, "sort": None},
            {"text": arm.first.backbone, "sort": None},
            _labels(arm),
            {"text": ", ".join(map(str, arm.seeds)), "sort": arm.seeds[0]},
        ],
        "cells": [*cells, *(quality(_task_entry(arm, key)) for key in extra)],
        "costs": [{"text": _amount(cost[key], digits), "sort": cost[key]} for key, _, digits in COSTS],
    }


def _labels(arm: Arm) -> Cell:
    if arm.first.task == "anomaly":
        count = arm.first.good_images
        return {"text": "good images alone" if count is None else f"{counted(count, 'good image')} alone", "sort": 0}
    budget = arm.first.budget
    return {"text": "all" if budget is None else f"{budget}", "sort": 1e9 if budget is None else budget}


def _amount(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:,.{digits}f}"


def quality(entry: Entry | None) -> Cell:
    """A value with its interval below; and how far the seeds lie apart, where there are several."""
    if not entry or entry.get("value") is None:
        return {"text": _absent((entry or {}).get("why") or "not measured"), "sort": None}
    small = "" if entry.get("low") is None else f"{shown(entry['low'])} to {shown(entry['high'])}"
    text = Markup('{} <span class="interval">{}</span>').format(shown(entry["value"]), small)
    if entry.get("spread"):
        between = f"seeds {shown(entry['spread'][0])} to {shown(entry['spread'][1])}"
        text += Markup(' <span class="interval">{}</span>').format(between)
    return {"text": text, "sort": entry["value"]}


def change(entry: Entry | None) -> Cell:
    """A difference with its interval, bold where that leaves zero out; None is the baseline itself."""
    if entry is None:
        return {"text": Markup('<span class="absent">baseline</span>'), "sort": 0.0}
    if entry["value"] is None:
        return {"text": _absent(entry.get("why") or "undefined"), "sort": None}
    value = Markup("<strong>{}</strong>" if outside(entry) else "{}").format(signed(entry["value"]))
    return {"text": Markup('{} <span class="interval">{}</span>').format(value, ends(entry)), "sort": entry["value"]}


def signed(value: float) -> str:
    """A difference with its sign and a true minus, three decimals; none before zero."""
    text = f"{value:+.3f}"
    return "0.000" if text in {"+0.000", "-0.000"} else text.replace("-", "\N{MINUS SIGN}")


def ends(entry: Entry) -> str:
    """`low to high` of a difference; why there is none where there is none."""
    if entry.get("low") is None:
        return str(entry.get("why") or "")
    return f"{signed(entry['low'])} to {signed(entry['high'])}"


def _absent(why: str) -> Markup:
    return Markup('<span class="absent" title="{}">{}</span>').format(why, ABSENT)


def mean_cost(arm: Arm) -> dict[str, float | None]:
    """Costs of an arm, each the mean over its seeds; None where a run lacks it."""
    costs = [run.cost() for run in arm.runs]
    found: dict[str, float | None] = {}
    for key, _, _ in COSTS:
        values = [one[key] for one in costs]
        known = [value for value in values if value is not None]
        found[key] = sum(known) / len(known) if len(known) == len(values) else None
    return found


def _task_columns(arms: Sequence[Arm]) -> dict[str, str]:
    """Metrics of the task alone, `key -> name`: at most two of each task, of arms of a single run."""
    found: dict[str, str] = {}
    for arm in arms:
        block = arm.first.records.metrics.get("task") or {}
        for key in list(block.get("metrics") or {})[:2] if len(arm.runs) == 1 else []:
            name = str(block["names"].get(key, key))
            found[key] = name[0].upper() + name[1:]
    return found


def _task_entry(arm: Arm, key: str) -> Entry | None:
    block = arm.first.records.metrics.get("task") or {}
    found: Entry | None = (block.get("metrics") or {}).get(key) if len(arm.runs) == 1 else None
    return found


def differing(arms: Sequence[Arm]) -> dict[str, list[str]]:
    """For each arm, by its name, the settings that are not the same in all, those left out that have a column."""
    every = [arm.first.settings for arm in arms]
    keys = [key for key in dict.fromkeys(key for one in every for key in one) if key not in HIDDEN]
    keys = [key for key in keys if any(one.get(key) != every[0].get(key) for one in every)]
    return {
        arm.name: [f"{key.split('.')[-1]} {_plain(one[key])}" for key in keys if key in one][:SHOWN_SETTINGS]
        for arm, one in zip(arms, every, strict=True)
    }


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return listed([str(one) for one in value], 3)
    return ABSENT if value in {None, ""} else str(value)


def differences_table(found: Sequence[Measured], against: Against, main: str) -> dict[str, Any]:
    """The paired difference from the baseline in every metric that both have, and the baseline where there are more."""
    names = [name for name in METRICS if any(name in one.entries for one in found)]
    rows = [
        {
            "name": one.arm.name,
            "base": against[one].arm.name,
            "cells": [change(difference(one, against, name)) for name in names],
        }
        for one in ordered(found, main)
        if against.get(one, one) is not one
    ]
    return {"heads": [METRICS[name] for name in names], "rows": rows}


def seeds_table(found: Sequence[Measured], main: str) -> list[dict[str, Any]]:
    """Every run of the arms that hold several, with its own metric."""
    return [
        {"name": run.name, "arm": one.arm.name, "seed": run.seed, "cell": quality(recorded(run, main))}
        for one in found
        if len(one.arm.runs) > 1
        for run in one.arm.runs
    ]
