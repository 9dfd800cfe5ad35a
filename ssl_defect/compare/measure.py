"""Metrics of runs over the same test images, and their paired differences, from the records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_defect.compare.runs import Arm, Run
from ssl_defect.compare.seeds import parts, parts_of_difference
from ssl_defect.evaluate.bootstrap import Resampling, leave_out, point, with_interval
from ssl_defect.evaluate.kept_counts import PIXELS, Kept, read_counts
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
TOLERANCE = 0.02
"""How far a metric of the kept records may lie from the recorded one before no interval is drawn from them.

Values are always the recorded ones; only their spread over groups comes from the counts that a run keeps. Runs from
before there were any have their maps alone, at 8 bits: one that never passes a few hundredths, or is nearly 0 or 1
everywhere, has few levels left.
"""


@dataclass(frozen=True, eq=False)
class Measured:
    """The metrics of an arm from the records kept.

    Attributes:
        points: metric -> (seeds,) as the evaluations recorded them.
        without: metric -> (seeds, blocks) without each block of test groups in turn.
        entries: metric -> value with its interval, as metrics.json has it for a single run.
        apart: metric -> why no difference can be drawn.
    """

    arm: Arm
    points: dict[str, Array]
    without: dict[str, Array]
    entries: dict[str, Entry]
    apart: dict[str, str]


Against = Mapping[Measured, Measured]  # what each is measured against; itself where it is a baseline


def main_metric(runs: Sequence[Run], wanted: str = "") -> str:
    """`wanted` where a run has it; else `pixel ap` where all runs segment and have masks, or `image auroc`."""
    if wanted and any(recorded(run, wanted)["value"] is not None for run in runs):
        return wanted
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
    kept = read_counts(run.folder / "evaluate" / PIXELS) or _counted(run)
    if kept:
        limit = records.metrics["pixel"]["aupro_limit"]
        found["pixel"] = subset(pixel_family(kept.counts, kept.threshold, limit), kept.known)
    return found


def _counted(run: Run) -> Kept | None:
    """Counts of the maps, in 255ths, of a run that kept none."""
    records = run.records
    maps, masks = records.maps, records.store.masks
    if maps is None or masks is None or not records.metrics.get("pixel"):
        return None
    rows = np.array([one.row for one in records.predictions])
    known = np.flatnonzero((run.labels == 0) | np.array([bool(masks[row].any()) for row in rows]))
    cut = float(np.round((records.metrics["threshold"]["pixel"] or 0) * 255))
    return Kept(count_pixels(np.asarray(maps[known]), np.asarray(masks[rows[known]]), cut), known, cut)


def measure(arms: Sequence[Arm]) -> list[Measured]:
    """Metrics of arms that were tested on the same images, each without the same blocks of groups in turn."""
    return [_measured(arm, spec_of(arms[0].first).level) for arm in arms]


def _measured(arm: Arm, level: float) -> Measured:
    points: dict[str, list[float]] = {}
    without: dict[str, list[Array]] = {}
    for run in arm.runs:
        kinds = families(run)
        left_out = leave_out(list(kinds.values()), run.groups)
        for (kind, family), values in zip(kinds.items(), left_out, strict=True):
            for name, value in point(family, len(run.labels)).items():
                if (metric := f"{kind} {name}") in METRICS:
                    points.setdefault(metric, []).append(value)
                    without.setdefault(metric, []).append(values[name])
    whole = {name: np.array(values) for name, values in points.items() if len(values) == len(arm.runs)}
    stacked = {name: np.stack(without[name]) for name in whole}
    entries = {name: _entry(arm, name, stacked[name], level) for name in whole}
    apart = {name: why for name in whole if (why := _why_apart(arm, name, whole[name]))}
    points_told = {name: _told(arm, name, values) for name, values in whole.items()}
    return Measured(arm, points_told, stacked, entries, apart)


def _told(arm: Arm, metric: str, kept: Array) -> Array:
    """What the evaluations recorded (seeds,); what the records kept give where one recorded nothing."""
    values = [recorded(run, metric)["value"] for run in arm.runs]
    return kept if None in values else np.array(values, np.float64)


def recorded(run: Run, metric: str) -> Entry:
    """The metric in the run's metrics.json."""
    level, name = metric.split(" ")
    found: Entry = (run.records.metrics.get(level) or {}).get(name) or {"value": None, "low": None, "high": None}
    return found


def _entry(arm: Arm, metric: str, without: Array, level: float) -> Entry:
    found = [recorded(run, metric) for run in arm.runs]
    if len(found) == 1:
        return found[0]
    why = WHY.get(metric.split(" ")[1], "")
    if any(one["value"] is None for one in found):
        return {"value": None, "low": None, "high": None, "why": why}
    values = np.array([one["value"] for one in found])
    entry = with_interval(float(values.mean()), parts(values, without), level, why, share=True)
    entry |= unvaried(found) or {}
    return entry | {"spread": (float(values.min()), float(values.max()))}


def unvaried(entries: Sequence[Entry]) -> dict[str, float] | None:
    """The widest of the intervals of seeds that are all 0 or all 1, whose own spread says nothing; else None."""
    values = {one["value"] for one in entries}
    if values not in ({0.0}, {1.0}) or any(one["low"] is None for one in entries):
        return None
    return {"low": min(one["low"] for one in entries), "high": max(one["high"] for one in entries)}


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
    points, without = (a.points[metric], b.points[metric]), (a.without[metric], b.without[metric])
    value = float(points[0].mean() - points[1].mean())
    found = parts_of_difference(points, without, (a.arm.seeds, b.arm.seeds))
    return with_interval(value, found, spec_of(a.arm.first).level, WHY.get(metric.split(" ")[1], ""))


def difference(one: Measured, against: Against, metric: str) -> Entry | None:
    """From its baseline; None for a baseline itself."""
    base = against.get(one)
    if base is None:
        return {"value": None, "low": None, "high": None, "why": "its baseline was not run"}
    return None if base is one else paired(one, base, metric)


def outside(entry: Entry) -> bool:
    """Whether the interval of a difference leaves zero out."""
    return entry.get("low") is not None and (entry["low"] > 0 or entry["high"] < 0)
