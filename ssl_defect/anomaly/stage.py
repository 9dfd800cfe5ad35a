"""anomaly: an encoder and good images alone to a detector; it stands where finetune would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_defect.anomaly.training import CHECKPOINT, train
from ssl_defect.artifacts import require, write_json
from ssl_defect.config import Recipe, validate
from ssl_defect.console import minutes, say, track
from ssl_defect.data.records import GOOD
from ssl_defect.data.store import Store, open_store
from ssl_defect.errors import UserError, nearest
from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.nets.anomaly.base import AnomalyHead, enlarged
from ssl_defect.nets.anomaly.options import Options
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec, save_detector
from ssl_defect.nets.weights import load_encoder_file
from ssl_defect.train.checkpoint import remove_checkpoints
from ssl_defect.train.device import lay_out, make_fabric, precision_name

BATCH = 32
Rows = NDArray[np.int64]


def anomaly(recipe: Recipe, prepared: Path, pretrained: Path, out: Path) -> None:
    """Fit a detector on the good training images; write `model.safetensors` and `finetune.json` into `out`.

    The scale of its scores comes from good validation images. No defect is looked at.

    Raises:
        UserError: an option is wrong, an earlier stage is missing, or there are no good images.
    """
    settings = recipe.anomaly
    assert settings is not None
    store, encoder_file = open_store(prepared), require(pretrained / "encoder.safetensors", "pretrain")
    options = options_of(recipe)
    rows, held = good_rows(store, "train"), good_rows(store, "val")
    began = time.monotonic()
    torch.manual_seed(recipe.seed)
    encoder = build_encoder(recipe.model.backbone, store.images.shape[1])
    meta = load_encoder_file(encoder, encoder_file)
    detector = Detector(encoder, make_spec(recipe, store, options, encoder, len(rows)))
    fabric = make_fabric(recipe.compute, lay_out(detector))
    head = detector.to(fabric.device).eval().head
    assert isinstance(head, AnomalyHead)
    out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        head.fit(detector.encoder, lambda: pictures(store, rows, fabric.device, "anomaly: good images"), recipe.seed)
    history = train(recipe, store, rows, detector, fabric, out) if isinstance(head, TrainedHead) else []
    with torch.no_grad():
        good = pictures(store, held, fabric.device, "anomaly: good validation images")
        calibrate(detector, head, good, options.quantile)
    seconds = time.monotonic() - began
    say(f"anomaly: {settings.detector} fitted on {len(rows)} good images, {minutes(seconds)} min")
    save_detector(out / "model.safetensors", detector, meta)
    facts = summary(recipe, detector, len(rows), seconds, meta)
    facts |= (
        {"steps": len(history) and int(history[-1]["step"]), "precision": precision_name(fabric)} if history else {}
    )
    write_json(out / "finetune.json", facts)
    remove_checkpoints(out / CHECKPOINT)


def options_of(recipe: Recipe) -> Options:
    """The detector's settings, validated.

    Raises:
        UserError: the detector is unknown, or an option is wrong.
    """
    settings = recipe.anomaly
    assert settings is not None
    if settings.detector not in DETECTORS:
        accepted = f"accepted: {', '.join(DETECTORS)}{nearest(settings.detector, DETECTORS)}"
        raise UserError(f"{recipe.name}: anomaly.detector: '{settings.detector}' is unknown; {accepted}")
    kind: type[Options] = import_module(DETECTORS[settings.detector][0]).OPTIONS[settings.detector]
    return validate(kind, settings.options, recipe.name, "anomaly.options")


def good_rows(store: Store, split: str) -> Rows:
    """Rows of the good images of a split.

    Raises:
        UserError: there is none.
    """
    rows = store.rows(split)
    good: Rows = rows[store.labels[rows] == 0]
    if not len(good):
        raise UserError(f"anomaly: the split {split} has no good image; add some, or set data.val_share")
    return good


def make_spec(recipe: Recipe, store: Store, options: Options, encoder: Any, count: int) -> Spec:
    """What the detector is built from, with the sizes of what it will learn."""
    assert recipe.anomaly is not None
    chosen = {"detector": recipe.anomaly.detector, **options.model_dump(mode="json")}
    name = recipe.anomaly.detector
    kind: type[AnomalyHead] = import_module(DETECTORS[name][0]).HEADS[name]
    return Spec(
        task="anomaly",
        backbone=recipe.model.backbone,
        image_size=int(store.images.shape[1]),
        channels=int(store.images.shape[3]),
        classes=[GOOD, "defective"],
        options=chosen | kind.measured(encoder, chosen, count),
        white=recipe.data.white,
    )


def pictures(store: Store, rows: Rows, device: torch.device, title: str) -> Iterator[Tensor]:
    """Batches (B, C, S, S) in [0, 1] on the device, with progress."""
    starts = range(0, len(rows), BATCH)
    for start in track(starts, len(starts), title):
        images = torch.from_numpy(np.ascontiguousarray(store.images[rows[start : start + BATCH]])).to(device)
        yield images.permute(0, 3, 1, 2).float() / 255


def calibrate(detector: Detector, head: AnomalyHead, batches: Iterator[Tensor], quantile: float) -> None:
    """Set the scales to a quantile of what good pictures have: of the images' distances, and of all pixels'."""
    images: list[Tensor] = []
    pixels: list[Tensor] = []
    for x in batches:
        found = head(detector.encoder, x)
        images.append(found["distance"].cpu())
        if "distances" in found:
            # of every picture the quantile, then the median: torch's quantile takes no more than 16 million values
            flat = enlarged(found["distances"], head.size).flatten(1).cpu()
            pixels += [torch.from_numpy(np.quantile(flat.numpy(), quantile, axis=1))]
    head.calibrate(torch.quantile(torch.cat(images), quantile), torch.cat(pixels).median() if pixels else None)


def summary(recipe: Recipe, detector: Detector, count: int, seconds: float, meta: dict[str, str]) -> dict[str, Any]:
    """`finetune.json`, under the keys that a trained detector has."""
    assert recipe.anomaly is not None
    return {
        "task": "anomaly",
        "detector": recipe.anomaly.detector,
        "classes": detector.spec.classes,
        "labels": {GOOD: count},
        "labels_per_class": None,
        "best_step": None,
        "best_validation": None,
        "validation_metric": "",
        "steps": 0,
        "stopped_early": False,
        "seconds": round(seconds, 2),
        "precision": "float32",
        "losses": {},
        "batch_norm": "frozen",
        "origin": meta.get("origin", ""),
        "memory": detector.spec.options.get("memory"),
    }
