"""anomaly: an encoder and good images alone to a detector; it stands where finetune would."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_defect.anomaly.calibration import Found, distances, set_probability, set_scales
from ssl_defect.anomaly.cleaning import suspects
from ssl_defect.anomaly.training import CHECKPOINT, train
from ssl_defect.artifacts import require, write_json
from ssl_defect.config import Recipe, validate
from ssl_defect.console import minutes, say, track
from ssl_defect.data.records import GOOD
from ssl_defect.data.splits import label_budget
from ssl_defect.data.store import Store, open_for_training
from ssl_defect.errors import UserError, nearest
from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.nets.anomaly.base import AnomalyHead
from ssl_defect.nets.anomaly.options import Options
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec, save_detector
from ssl_defect.nets.folding import folded
from ssl_defect.nets.weights import load_encoder_file
from ssl_defect.train.checkpoint import remove_checkpoints
from ssl_defect.train.device import lay_out, make_fabric, precision_name, resolve_device

BATCH = 32
Rows = NDArray[np.int64]


def anomaly(recipe: Recipe, prepared: Path, pretrained: Path, out: Path) -> None:
    """Fit a detector on the good training images; write `model.safetensors` and `finetune.json` into `out`.

    The scale of its scores comes from good validation images; no defect is looked at, but for `calibration: logistic`,
    which counts those among the validation images. A detector that learns in steps goes on from its checkpoint.

    Raises:
        UserError: an option is wrong, an earlier stage is missing, there are no good images, or NaN was found.
    """
    settings = recipe.anomaly
    assert settings is not None
    store, encoder_file = open_for_training(prepared), require(pretrained / "encoder.safetensors", "pretrain")
    options = options_of(recipe)
    if recipe.compute.devices > 1:
        raise UserError("compute.devices: a detector of anomalies is fitted in one process; set it to 1")
    rows, held = few(recipe, store, options.images), good_rows(store, "val")
    work, began = Work(recipe, store, options, encoder_file), time.monotonic()
    suspected = suspects(rows, store.groups, options.clean, work.judge(out), recipe.seed)
    kept = np.setdiff1d(rows, suspected)
    fitted = work.fit(kept, out)
    calibrate(work, fitted.detector, held)
    seconds = time.monotonic() - began
    say(f"anomaly: {settings.detector} fitted on {len(kept)} good images, {minutes(seconds)} min")
    save_detector(out / "model.safetensors", fitted.detector, fitted.meta)
    facts = summary(recipe, fitted, len(kept), seconds)
    write_json(out / "finetune.json", facts | {"cleaned": [store.samples[row].image for row in suspected]})
    remove_checkpoints(out / CHECKPOINT)


@dataclass(frozen=True)
class Fitted:
    """A detector, what its encoder is, and the looks at its training."""

    detector: Detector
    meta: dict[str, str]
    history: list[dict[str, float]]
    precision: str


@dataclass(frozen=True)
class Work:
    """All that a fit needs but for its images."""

    recipe: Recipe
    store: Store
    options: Options
    encoder_file: Path

    def fit(self, rows: Rows, out: Path) -> Fitted:
        """A detector of what these rows hold; `out` takes the checkpoint and the history of one that learns."""
        torch.manual_seed(self.recipe.seed)
        encoder = build_encoder(self.recipe.model.backbone, self.store.images.shape[1])
        meta = load_encoder_file(encoder, self.encoder_file)
        detector = Detector(encoder, make_spec(self.recipe, self.store, self.options, encoder, len(rows)))
        fabric = make_fabric(self.recipe.compute, lay_out(detector))
        head = detector.to(fabric.device).eval().head
        assert isinstance(head, AnomalyHead)
        out.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            head.fit(folded(detector.encoder), lambda: self.pictures(rows, "anomaly: good images"), self.recipe.seed)
        if not isinstance(head, TrainedHead):
            return Fitted(detector, meta, [], "float32")
        history = train(self.recipe, self.store, rows, detector, fabric, out)
        return Fitted(detector, meta, history, precision_name(fabric))

    def pictures(self, rows: Rows, title: str) -> Iterator[Tensor]:
        """Batches (B, C, S, S) in [0, 1] on the device, with progress."""
        starts, device = range(0, len(rows), BATCH), resolve_device(self.recipe.compute)
        for start in track(starts, len(starts), title):
            images = torch.from_numpy(np.ascontiguousarray(self.store.images[rows[start : start + BATCH]])).to(device)
            yield images.permute(0, 3, 1, 2).float() / 255

    def find(self, detector: Detector, rows: Rows, title: str) -> Found:
        """Distances of rows."""
        with torch.no_grad():
            return distances(detector, self.pictures(rows, title), self.options.quantile)

    def judge(self, out: Path) -> Callable[[Rows, Rows], NDArray[np.float64]]:
        """What `suspects` asks: distances of some rows from what others hold."""

        def judge(known: Rows, asked: Rows) -> NDArray[np.float64]:
            place = out / f"cleaning-{known[0]}"
            found = self.find(self.fit(known, place).detector, asked, "anomaly: looking for defects among the good")
            shutil.rmtree(place)
            return found.images

        return judge


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


def few(recipe: Recipe, store: Store, count: int | None) -> Rows:
    """`count` of the good training images, drawn as labels are; all for None, or where there are no more."""
    rows = good_rows(store, "train")
    if count is not None and count > len(rows):
        say(f"anomaly: {len(rows)} good training images, fewer than anomaly.options.images ({count}): all get used")
    return label_budget(store.samples, rows, count, recipe.seed)


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


def calibrate(work: Work, detector: Detector, good: Rows) -> None:
    """Scales of image and pixel scores from good validation images, and probabilities where they are asked for."""
    head, store = detector.head, work.store
    assert isinstance(head, AnomalyHead)
    found = work.find(detector, good, "anomaly: good validation images")
    set_scales(head, found, work.options.quantile)
    if work.options.calibration == "logistic":
        every = store.rows("val")
        bad = every[store.labels[every] > 0]
        more = work.find(detector, bad, "anomaly: defective validation images")
        labels = np.repeat([0, 1], [len(good), len(bad)])
        set_probability(head, np.concatenate([found.images, more.images]), labels)


def summary(recipe: Recipe, fitted: Fitted, count: int, seconds: float) -> dict[str, Any]:
    """`finetune.json`, under the keys that a trained detector has."""
    assert recipe.anomaly is not None
    return {
        "task": "anomaly",
        "detector": recipe.anomaly.detector,
        "classes": fitted.detector.spec.classes,
        "labels": {GOOD: count},
        "labels_per_class": None,
        "best_step": None,
        "best_validation": None,
        "validation_metric": "",
        "steps": int(fitted.history[-1]["step"]) if fitted.history else 0,
        "stopped_early": False,
        "seconds": round(seconds, 2),
        "precision": fitted.precision,
        "losses": {},
        "batch_norm": "frozen",
        "origin": fitted.meta.get("origin", ""),
        "memory": fitted.detector.spec.options.get("memory"),
    }
