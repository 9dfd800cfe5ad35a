"""K-fold cross-validation: the pipeline once per fold, each in its own run folder, and one table over all."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from ssl_defect import pipeline
from ssl_defect.artifacts import read_json, require, write_json
from ssl_defect.config import DataSettings, Recipe, validate
from ssl_defect.console import minutes, say

SUMMARY = "crossval.json"
IMAGE = ("auroc", "ap", "f1", "precision", "recall", "accuracy")
PIXEL = ("auroc", "ap", "aupro", "iou", "dice")


def cross_validate(recipe: Recipe, folds: int, out: Path, force: bool = False) -> dict[str, Any]:
    """Run the recipe once per fold into `out/fold-1` to `out/fold-K`, and write `out/crossval.json`.

    Folds keep near-copies together and hold each class in equal shares; every image is tested exactly once. A fold
    that is finished is fresh the next time, so a stopped cross-validation goes on where it was.

    Args:
        folds: K, at least 2.
        force: run finished folds again.

    Returns:
        What the file holds: "metrics" {name: {"mean", "std", "folds"}}, std with K - 1 in the denominator, None where
        a fold left the metric undefined; and "folds" with the run and its counts.

    Raises:
        UserError: more folds than a class has groups, a published split, or a stage failed.
    """
    began, runs = time.monotonic(), []
    for fold in range(folds):
        run = out / f"fold-{fold + 1}"
        say(f"crossval: fold {fold + 1} of {folds} in {run}")
        pipeline.run(of_fold(recipe, folds, fold), run, force=force)
        runs.append(run)
        spent = time.monotonic() - began
        left = f", about {minutes(spent / (fold + 1) * (folds - fold - 1))} left" if fold + 1 < folds else ""
        say(f"crossval: {fold + 1} of {folds} folds done in {minutes(spent)}{left}")
    found = summarise(recipe.name, runs)
    write_json(out / SUMMARY, found)
    return found


def of_fold(recipe: Recipe, folds: int, fold: int) -> Recipe:
    """The recipe with `data.folds` and `data.fold` set.

    Raises:
        UserError: the other settings do not allow folds.
    """
    data = recipe.data.model_dump() | {"folds": folds, "fold": fold}
    return recipe.model_copy(update={"data": validate(DataSettings, data, recipe.name, "data")})


def summarise(name: str, runs: list[Path]) -> dict[str, Any]:
    """Mean, standard deviation and each fold's value of the main metrics of finished runs."""
    every = [read_json(require(run / "evaluate" / "metrics.json", "evaluate")) for run in runs]
    values: dict[str, list[float | None]] = {}
    for place, metrics in enumerate(every):
        for key, value in _main(metrics).items():
            values.setdefault(key, [None] * len(runs))[place] = value
    return {
        "name": name,
        "folds": [
            {"run": run.name, **metrics["counts"], "seed": metrics["protocol"]["seed"]}
            for run, metrics in zip(runs, every, strict=True)
        ],
        "metrics": {key: {**spread(found), "folds": found} for key, found in values.items()},
    }


def _main(metrics: dict[str, Any]) -> dict[str, float | None]:
    blocks = (("image", metrics["image"], IMAGE), ("pixel", metrics.get("pixel") or {}, PIXEL))
    found = {f"{name} {key}": block[key]["value"] for name, block, keys in blocks for key in keys if key in block}
    task = metrics.get("task") or {}
    return found | {f"task {key}": entry["value"] for key, entry in (task.get("metrics") or {}).items()}


def spread(values: list[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation of the values that are there; None where there are too few."""
    there = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(there) if there else None,
        "std": statistics.stdev(there) if len(there) > 1 else None,
    }


def table(found: dict[str, Any]) -> str:
    """The summary as lines of text: a metric per line with mean, standard deviation and every fold."""
    heads = ["metric", "mean", "std", *(fold["run"] for fold in found["folds"])]
    rows = [heads]
    for name, entry in found["metrics"].items():
        rows.append([name, *(_text(value) for value in (entry["mean"], entry["std"], *entry["folds"]))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(first)), *rest]))
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
