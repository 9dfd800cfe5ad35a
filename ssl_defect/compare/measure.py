"""Metrics of runs over the same test images, and their paired differences, from the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_defect.compare.runs import Arm, Run
from ssl_defect.compare.seeds import difference, over_seeds
from ssl_defect.evaluate.bootstrap import Resampling, draw, point, summary
from ssl_defect.evaluate.metrics import WHY, Family, image_family, subset
from ssl_defect.evaluate.regions import count_pixels, pixel_family

Array = npt.NDArray[np.float64]
Entry = dict[str, Any]  # {"value", "low", "high"[, "why"]} as in metrics.json
METRICS = {
    "image auroc": "Image AUROC",
    "image ap": "Image AP",
    "image f1": "Image F1",
    "pixel ap": "Pixel AP",
    "pixel aupro": "AUPRO",
    "pixel dice": "Dice",
}
TOLERANCE = 0.005
"""How far a metric of the kept records may lie from the recorded one before no difference is drawn from them.

Maps are kept at 8 bits; a map that never passes a few hundredths has few levels left.
"""


@dataclass(frozen=True, eq=False)
class Measured:
    """The metrics of an arm: `points` from the records kept, (seeds,), and their draws (seeds, draws).

    Attributes:
        entries: metric -> value with its interval, as metrics.json has it for a single run.
        apart: metric -> why no difference can be drawn.
    """

    arm: Arm
    points: dict[str, Array]
    draws: dict[str, Array]
    entries: dict[str, Entry]
    apart: dict[str, str]


def main_metric(runs: Sequence[Run]) -> str:
    """`pixel ap` where all runs segment and have masks, else `image auroc`."""
    whole = all(run.task == "segmentation" and run.records.metrics.get("pixel") for run in runs)
    return "pixel ap" if whole else "image auroc"


def spec_of(run: Run) -> Resampling:
    """Draws and level of the run's evaluation; one seed for all, so that draws are shared."""
    told = run.records.metrics["interval"]
    return Resampling(draws=int(told["draws"]), level=float(told["level"]), seed=0)


def families(run: Run) -> dict[str, Family]:
    """`image` and, where there are maps and masks, `pixel`: metrics as functions of the weights of all test images."""
    records = run.records
    threshold = records.metrics["threshold"]["value"]
    found = {"image": image_family(run.labels, run.scores, np.inf if threshold is None else threshold)}
    pixel, maps, masks = records.metrics.get("pixel"), records.maps, records.store.masks
    if pixel and maps is not None and masks is not None:
        rows = np.array([one.row for one in records.predictions])
        told = (run.labels == 0) | np.array([bool(masks[row].any()) for row in rows])
        known = np.flatnonzero(told)
        cut = float(np.round((records.metrics["threshold"]["pixel"] or 0) * 255))
        counts = count_pixels(np.asarray(maps[known]), np.asarray(masks[rows[known]]), cut)
        found["pixel"] = subset(pixel_family(counts, cut, pixel["aupro_limit"]), known)
    return found


def measure(arms: Sequence[Arm]) -> list[Measured]:
    """Metrics of arms that were tested on the same images, all under the same draws of groups."""
    spec = spec_of(arms[0].first)
    return [_measured(arm, spec) for arm in arms]


def _measured(arm: Arm, spec: Resampling) -> Measured:
    points: dict[str, list[float]] = {}
    draws: dict[str, list[Array]] = {}
    for run in arm.runs:
        parts = families(run)
        drawn = draw(list(parts.values()), run.groups, spec)
        for (level, family), values in zip(parts.items(), drawn, strict=True):
            for name, value in point(family, len(run.labels)).items():
                if (metric := f"{level} {name}") in METRICS:
                    points.setdefault(metric, []).append(value)
                    draws.setdefault(metric, []).append(values[name])
    whole = {name: np.array(values) for name, values in points.items() if len(values) == len(arm.runs)}
    stacked = {name: np.stack(draws[name]) for name in whole}
    entries = {name: _entry(arm, name, stacked[name], spec) for name in whole}
    apart = {name: why for name in whole if (why := _why_apart(arm, name, whole[name]))}
    return Measured(arm, whole, stacked, entries, apart)


def recorded(run: Run, metric: str) -> Entry:
    """The metric in the run's metrics.json."""
    level, name = metric.split(" ")
    found: Entry = (run.records.metrics.get(level) or {}).get(name) or {"value": None, "low": None, "high": None}
    return found


def _entry(arm: Arm, metric: str, draws: Array, spec: Resampling) -> Entry:
    found = [recorded(run, metric) for run in arm.runs]
    if len(found) == 1:
        return found[0]
    values = [one["value"] for one in found]
    mean = float("nan") if None in values else float(np.mean(values))
    why = WHY.get(metric.split(" ")[1], "")
    spread = {} if None in values else {"spread": (min(values), max(values))}
    return summary(mean, over_seeds(draws), arm.first.groups, spec.level, why) | spread


def _why_apart(arm: Arm, metric: str, points: Array) -> str:
    for run, value in zip(arm.runs, points, strict=True):
        told = recorded(run, metric)["value"]
        if told is None and np.isfinite(value):
            return "not recorded"
        if told is not None and abs(told - value) > TOLERANCE:
            return f"the records kept give {value:.3f}, the evaluation {told:.3f}: too coarse for a difference"
    return ""


def paired(a: Measured, b: Measured, metric: str) -> Entry:
    """`a - b` of one metric with its interval over test groups, and over seeds where there are several."""
    if metric not in a.points or metric not in b.points:
        return {"value": None, "low": None, "high": None, "why": "not measured for both"}
    if why := a.apart.get(metric) or b.apart.get(metric):
        return {"value": None, "low": None, "high": None, "why": why}
    run = a.arm.first
    drawn = difference(a.draws[metric], b.draws[metric], (a.arm.seeds, b.arm.seeds))
    value = float(a.points[metric].mean() - b.points[metric].mean())
    if len(a.arm.runs) == len(b.arm.runs) == 1:
        value = float(a.points[metric][0] - b.points[metric][0])
    return summary(value, drawn, run.groups, spec_of(run).level, WHY.get(metric.split(" ")[1], ""))


def outside(entry: Entry) -> bool:
    """Whether the interval of a difference leaves zero out."""
    return entry.get("low") is not None and (entry["low"] > 0 or entry["high"] < 0)
