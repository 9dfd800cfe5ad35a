"""Fabricated runs over one store that differ in scores and maps, and whose metrics are those of their scores."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fabricated_run import Fake, build

from ssl_defect.artifacts import read_json, write_json
from ssl_defect.compare.measure import families
from ssl_defect.compare.runs import Run
from ssl_defect.config import dump_yaml
from ssl_defect.evaluate.bootstrap import Resampling, intervals
from ssl_defect.report.records import read_run

THRESHOLD = 0.5


def make(folder: Path, fake: Fake, shift: float = 0.3, noise: int = 0, method: str = "simclr", **settings: Any) -> Path:
    """A run whose defective images score higher by `shift`; `noise` is the seed of its scores and maps.

    `settings` are sections of the recipe, or its seed.
    """
    fake = replace(fake, method=method, sections={**fake.sections, **settings})
    recipe = build(folder, fake)
    (folder / "recipe.yaml").write_text(dump_yaml(recipe), encoding="utf-8")
    rng = np.random.default_rng(noise)
    rescore(folder, shift, rng)
    if (folder / "evaluate" / "maps.npy").exists():
        maps = np.load(folder / "evaluate" / "maps.npy").astype(int)
        mixed = maps * (0.2 + shift) + rng.integers(0, 120, maps.shape)
        np.save(folder / "evaluate" / "maps.npy", np.clip(mixed, 0, 255).astype(np.uint8))
    run = Run(folder.name, folder, read_run(recipe, folder))
    metrics = read_json(folder / "evaluate" / "metrics.json")
    metrics["protocol"] |= {"labels_per_class": recipe.finetune.labels_per_class, "seed": recipe.seed}
    metrics["interval"]["draws"] = 200
    for level, family in families(run).items():
        metrics[level] |= intervals(family, run.groups, Resampling(200, 0.95, recipe.seed))
    write_json(folder / "evaluate" / "metrics.json", metrics)
    return folder


def rescore(folder: Path, shift: float, rng: np.random.Generator) -> None:
    """New scores, and the verdicts that follow."""

    def changed(row: dict[str, str]) -> dict[str, Any]:
        label = int(row["label"])
        score = float(np.clip(rng.normal(0.35 + shift * label, 0.16), 0, 1))
        called = score >= THRESHOLD
        verdict = "defective" if called else "good"
        return row | {"score": repr(score), "verdict": verdict, "correct": int(called == (label > 0))}

    rewrite(folder, changed)


def rewrite(folder: Path, change: Any) -> None:
    """Every row of predictions.csv through `change`."""
    path = folder / "evaluate" / "predictions.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = [change(row) for row in csv.DictReader(file)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
