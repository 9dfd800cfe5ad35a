"""Adds to a fabricated run what evaluate says of the encoder that fine-tuning started from."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from fabricated_run import metrics_of

from ssl_defect.artifacts import write_json

PLACES = [f"before_{name}_{axis}" for name in ("pca", "tsne", "umap") for axis in "xy"]
TOLD = {"k": 5, "images": 60, "before": 0.6123456, "after": 0.9345678}


def add_before(run: Path, without: tuple[str, ...] = ()) -> None:
    """Places before fine-tuning, of which the projections `without` say nothing, and what neighbours tell."""
    path = run / "evaluate" / "embeddings.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(1)
    for row in rows:
        row.update({name: "" if name.split("_")[1] in without else f"{rng.normal():.5g}" for name in PLACES})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_json(run / "evaluate" / "metrics.json", {**metrics_of(run), "neighbours": TOLD})
