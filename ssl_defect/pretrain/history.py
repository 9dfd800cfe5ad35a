"""What pretraining leaves beside the encoder: a row per epoch, a summary, and pictures of what it saw."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ssl_defect.artifacts import atomic, write_json
from ssl_defect.config import Recipe
from ssl_defect.data.store import Store
from ssl_defect.pretrain.base import Method
from ssl_defect.pretrain.probe import METRIC
from ssl_defect.train.batches import Batches, Rows

PICTURES = 6  # images that get a strip


def write_history(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write `history.csv`; numbers to six digits, a cell that was not measured is empty."""
    with atomic(out / "history.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)


def write_summary(out: Path, recipe: Recipe, state: dict[str, Any], facts: dict[str, Any], k: int) -> None:
    """Write `pretrain.json`, and `history.csv` for good where there are epochs."""
    settings, rows = recipe.pretrain, state["rows"]
    if rows:
        write_history(out, rows)
    summary = {
        "method": settings.method,
        "start": "imagenet" if settings.method == "imagenet" else settings.start,
        "epochs": len(rows),
        "probe": {"metric": METRIC, "before": state["before"], "after": state["after"], "k": k},
        "collapsed": False,
        "training_seconds": round(sum(row["seconds"] for row in rows), 1),
        "pictures": PICTURES if (out / "pictures.npz").exists() else 0,
    }
    write_json(out / "pretrain.json", summary | facts)


@torch.inference_mode()
def paint(out: Path, method: Method, store: Store, rows: Rows, fabric: Fabric) -> None:
    """Write `pictures.npz`: "views" uint8 (n, strip, S, S, 3), for each of n images what `Method.pictures` gives."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(PICTURES, len(rows))).astype(np.int64)]
    batch = Batches(store, rows, len(chosen), 0).gather(chosen)
    moved: dict[str, Any] = {key: value.to(fabric.device) for key, value in batch.items()}
    moved["generator"] = torch.Generator(fabric.device).manual_seed(0)
    training = method.training
    method.eval()
    with fabric.autocast():
        strips = method.pictures(moved)
    method.train(training)
    views = (strips.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    array = views.permute(0, 1, 3, 4, 2).expand(*views.shape[:2], *views.shape[3:], 3).numpy()
    if fabric.is_global_zero:
        with atomic(out / "pictures.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, views=np.ascontiguousarray(array))


def shown(probe: float | None) -> str:
    """The probe as a person reads it."""
    return "not measured (validation has one class only)" if probe is None else f"{probe:.3f}"


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
