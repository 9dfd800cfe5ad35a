"""What pretraining leaves beside the encoder: a row per epoch, a summary, and pictures of what it saw."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric

from ssl_defect.artifacts import atomic, write_json
from ssl_defect.config import Recipe
from ssl_defect.data.store import Store
from ssl_defect.pretrain.base import Method
from ssl_defect.pretrain.probe import LINEAR_METRIC, METRIC
from ssl_defect.train.batches import Batches, Partners, Rows

PICTURES = 6  # images that get a strip
BEFORE = "pictures-before.npy"  # until the run ends

Strips = npt.NDArray[np.uint8]


def write_history(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write `history.csv`; numbers to six digits, a cell that was not measured is empty."""
    with atomic(out / "history.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)


def write_summary(out: Path, recipe: Recipe, state: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write `pretrain.json`, and `history.csv` for good where there are epochs.

    Args:
        state: "before" and "after", what the probe measured, "rows", a dict per epoch, and "warnings".
        facts: what else is to stand there; "probe" and "linear_probe" get more entries beside theirs.
    """
    settings, rows, before, after = recipe.pretrain, state["rows"], state["before"], state["after"]
    if rows:
        write_history(out, rows)
    summary = {
        "method": settings.method,
        "start": "imagenet" if settings.method == "imagenet" else settings.start,
        "epochs": len(rows),
        "probe": {"metric": METRIC, "before": before["auroc"], "after": after["auroc"]} | facts.pop("probe"),
        "linear_probe": {"metric": LINEAR_METRIC, "before": before["linear"], "after": after["linear"]},
        "rank": {"metric": "effective rank (RankMe)", "before": before["rank"], "after": after["rank"]},
        "collapsed": False,
        "warnings": list(state.get("warnings", {}).values()),
        "training_seconds": round(sum(row["seconds"] for row in rows), 1),
        "probe_seconds": round(sum(row["probe_seconds"] or 0 for row in rows), 1),
        "pictures": PICTURES if (out / "pictures.npz").exists() else 0,
    }
    write_json(out / "pretrain.json", summary | facts)


def describe(method: Method) -> dict[str, Any]:
    """What a reader of the records has to know of a method: its name, its scalars and its pictures in words."""
    return {
        "title": method.title or type(method).__name__,
        "logs": dict(method.logs),
        "strip": list(method.strip),
        "chance": method.chance,
    }


@torch.no_grad()  # not inference_mode: what a method may keep from here would be of no use to training
def paint(method: Method, store: Store, rows: Rows, fabric: Fabric) -> Strips:
    """What `Method.pictures` gives for a few of `rows`, always the same: uint8 (n, strip, S, S, 3)."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(PICTURES, len(rows))).astype(np.int64)]
    batch = Batches(store, rows, len(chosen), 0).gather(chosen)
    if method.partners:
        copies = Partners(rows, store.groups)(chosen, np.zeros(len(store.samples)))
        batch["partner"] = torch.from_numpy(store.images[copies]).permute(0, 3, 1, 2)
    moved: dict[str, Any] = {key: value.to(fabric.device) for key, value in batch.items()}
    moved["generator"] = torch.Generator(fabric.device).manual_seed(0)
    training = method.training
    method.eval()
    with fabric.autocast():
        strips = method.pictures(moved)
    method.train(training)
    views = (strips.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return np.ascontiguousarray(views.permute(0, 1, 3, 4, 2).expand(*views.shape[:2], *views.shape[3:], 3).numpy())


def keep_before(out: Path, strips: Strips) -> None:
    """Keep the pictures of the untrained method until the run ends."""
    with atomic(out / BEFORE) as temporary, temporary.open("wb") as file:
        np.save(file, strips)


def write_pictures(out: Path, strips: Strips) -> None:
    """Write `pictures.npz`: "views" (n, strip, S, S, 3), and "before", the same before training, where they differ."""
    arrays: dict[str, Any] = {"views": strips}
    if (out / BEFORE).exists():
        before = np.load(out / BEFORE)
        if before.shape == strips.shape and (before != strips).any():
            arrays["before"] = before
    with atomic(out / "pictures.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    (out / BEFORE).unlink(missing_ok=True)


def shown(probe: float | None) -> str:
    """The probe as a person reads it."""
    return "not measured (validation has one class only)" if probe is None else f"{probe:.3f}"


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
