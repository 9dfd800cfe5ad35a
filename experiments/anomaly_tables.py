"""Tables of detectors from good images alone: metrics with intervals, paired differences, published figures."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compare_initialisations import SPEC, families, interval

from ssl_defect.artifacts import read_json, read_record
from ssl_defect.config import Recipe
from ssl_defect.data.shortcuts import statistics
from ssl_defect.data.store import open_store
from ssl_defect.errors import UserError
from ssl_defect.evaluate.bootstrap import intervals, leave_out
from ssl_defect.evaluate.metrics import image_family

SHOWN = ("image auroc", "pixel auroc", "pixel ap", "pixel aupro")
PATCHCORE, DIFFERNET, CUTPASTE = "arXiv 2106.08265", "arXiv 2008.12577", "arXiv 2104.04015"
PUBLISHED = {  # percent: image AUROC, pixel AUROC, where it is from
    "tiles, random": [
        ("PatchCore, 10% coreset, WRN50", 97.9, None, PATCHCORE),
        ("DifferNet", 97.7, None, f"{DIFFERNET}, in {PATCHCORE}"),
        ("1-NN", 80.0, None, PATCHCORE),
        ("GANomaly", 76.6, None, PATCHCORE),
    ],
    "screw, official": [
        ("PatchCore in anomalib, WRN50", 96.0, 98.9, "anomalib README"),
        ("PatchCore in anomalib, ResNet-18", 94.3, 99.1, "anomalib README"),
        ("PaDiM in anomalib, WRN50", 84.5, 98.8, "anomalib README"),
        ("PaDiM in anomalib, ResNet-18", 75.9, 97.8, "anomalib README"),
        ("reverse distillation in anomalib, WRN50", 98.5, 99.6, "anomalib README"),
        ("CutPaste, 3-way", 86.3, 96.7, CUTPASTE),
    ],
}


@dataclass(frozen=True)
class Row:
    """A run: `place` is the set or the state of it, `baseline` the run that it is compared with."""

    place: str
    detector: str
    recipe: Recipe
    baseline: str = ""


def finished(out: Path, rows: dict[str, Row]) -> dict[str, Row]:
    return {name: row for name, row in rows.items() if read_record(out / name / "evaluate") is not None}


def measured(run: Path) -> tuple[list[tuple[str, Any]], np.ndarray, list[str]]:
    """The metrics of a run's test images as functions of weights, their groups, and their names."""
    parts, groups = families(run)
    with (run / "evaluate" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        names = [row["image"] for row in csv.DictReader(file) if row["split"] == "test"]
    return parts, groups, names


def differences(run: Path, baseline: Path) -> dict[str, str]:
    """`+0.012 (-0.003 to +0.027)` by metric, bold where the interval leaves zero out; each group left out for both."""
    (mine, _, names), (theirs, groups, others) = measured(run), measured(baseline)
    if names != others:
        raise UserError(f"{run} and {baseline} were not tested on the same images; delete one and start again")
    found = {}
    left_out = leave_out([family for _, family in [*mine, *theirs]], groups)
    ours = {level: (family, values) for (level, family), values in zip(mine, left_out, strict=False)}
    for (level, family), values in zip(theirs, left_out[len(mine) :], strict=True):
        if level not in ours:
            continue
        one = np.ones((1, len(groups)))
        point, other = ours[level][0](one), family(one)
        for metric, value in values.items():
            change = point[metric] - other[metric]
            low, high = interval(change, (ours[level][1][metric] - value)[None])
            text = f"{change[0]:+.3f} ({low:+.3f} to {high:+.3f})"
            found[f"{level} {metric}"] = f"**{text}**" if low > 0 or high < 0 else text
    return found


def shown(entry: dict[str, Any] | None) -> str:
    """`0.812 (0.790 to 0.840)`."""
    if entry is None or entry["value"] is None:
        return "-"
    return f"{entry['value']:.3f}" + ("" if entry["low"] is None else f" ({entry['low']:.3f} to {entry['high']:.3f})")


def values_of(run: Path) -> dict[str, Any]:
    """Metrics by name with their intervals, from the run's predictions: in the way of today, whenever it was made."""
    parts, groups, _ = measured(run)
    found = {level: intervals(family, groups, SPEC) for level, family in parts}
    return {name: found.get(name.split()[0], {}).get(name.split()[1]) for name in SHOWN}


def brightness(run: Path) -> dict[str, Any]:
    """Image AUROC of mean brightness, and of how far it lies from that of good training images: no detector at all."""
    store = open_store(run / "prepare")
    test, train = store.rows("test"), store.rows("train")
    light = statistics(store.images)["brightness"]
    middle = np.median(light[train][store.labels[train] == 0])
    scores = {
        "mean brightness": light[test],
        "its distance from that of good training images": abs(light - middle)[test],
    }
    labels, groups = store.labels[test], store.groups[test]
    return {name: intervals(image_family(labels, value, 0.5), groups, SPEC)["auroc"] for name, value in scores.items()}


def table(out: Path, rows: dict[str, Row], head: str) -> tuple[list[str], dict[str, Any]]:
    """A row per finished run, then the paired differences; and all of it as data."""
    done = finished(out, rows)
    lines = [
        f"| {head} | detector | " + " | ".join(SHOWN) + " | good images | fit, min |",
        "|" + "---|" * (len(SHOWN) + 4),
    ]
    found: dict[str, Any] = {}
    for name, row in rows.items():
        if name not in done:
            lines.append(f"| {row.place} | `{row.detector}` | not finished |" + " |" * (len(SHOWN) + 1))
            continue
        run = out / name
        fitted, found[name] = read_json(run / "finetune" / "finetune.json"), values_of(run)
        cells = [shown(value) for value in found[name].values()]
        lines.append(
            f"| {row.place} | `{row.detector}` | " + " | ".join(cells) + f" | {fitted['labels']['good']} |"
            f" {fitted['seconds'] / 60:.2f} |"
        )
    if head == "protocol":
        lines += _beside(out, done, found)
    return lines + _differences(out, done, head), found


def _beside(out: Path, done: dict[str, Row], found: dict[str, Any]) -> list[str]:
    """What brightness alone reaches, and the published figures."""
    lines = []
    for place in dict.fromkeys(row.place for row in done.values()):
        run = next(out / name for name, row in done.items() if row.place == place)
        for name, value in brightness(run).items():
            found[f"{place}: {name}"] = value
            lines.append(f"| {place} | {name} | {shown(value)} |" + " |" * (len(SHOWN) + 1))
        for name, image, pixel, source in PUBLISHED.get(place, []):
            second = "" if pixel is None else f"{pixel / 100:.3f}"
            lines.append(
                f"| {place} | published: {name} ({source}) | {image / 100:.3f} | {second} |" + " |" * len(SHOWN)
            )
    return lines


def _differences(out: Path, done: dict[str, Row], head: str) -> list[str]:
    compared = {name: row for name, row in done.items() if row.baseline in done}
    if not compared:
        return []
    against = next(iter({done[row.baseline].place.split(", ")[-1] for row in compared.values()}))
    lines = ["", f"Difference from {against}, paired; bold where the interval leaves zero out:", ""]
    lines += [f"| {head} | detector | " + " | ".join(SHOWN) + " |", "|" + "---|" * (len(SHOWN) + 2)]
    for name, row in compared.items():
        found = differences(out / name, out / row.baseline)
        lines.append(f"| {row.place} | `{row.detector}` | " + " | ".join(found.get(m, "-") for m in SHOWN) + " |")
    return lines
