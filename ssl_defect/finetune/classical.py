"""Classical detectors: thresholds, golden picture and texture, fitted in seconds on the labelled training images."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import roc_auc_score

from ssl_defect.artifacts import write_json
from ssl_defect.config import Recipe, Settings, validate
from ssl_defect.console import minutes, say, track
from ssl_defect.data.records import GOOD
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.finetune.training import HISTORY, MODEL, write_history
from ssl_defect.nets.classical.base import Labelled
from ssl_defect.nets.classical.detector import CLASSICAL, KINDS, ClassicalDetector, fitted_tensors
from ssl_defect.nets.detector import Spec, save_detector

BATCH = 32


class Options(Settings):
    """Settings of the classical methods; each uses those of its kind."""

    method: Literal["otsu", "adaptive", "golden", "template", "lbp", "glcm", "gabor", "texture"] = Field(
        "golden",
        description="Threshold (`otsu`, `adaptive`), difference from the median of the good images (`golden`) or "
        "correlation with it (`template`), or texture features with a classifier (`texture` is the other three).",
    )
    score_share: float = Field(
        0.005, gt=0, le=1, description="The image's score is the mean of the map over this share of its highest pixels."
    )
    polarity: Literal["auto", "dark", "bright", "both"] = Field(
        "auto", description="Thresholds: which side is defective; `auto` chooses on the labelled training images."
    )
    block: int | None = Field(
        None,
        ge=0,
        description="Thresholds: side in pixels, odd, of the local background; 0 for none; chosen if left out.",
    )
    local_mean: Literal["gaussian", "mean"] = Field("gaussian", description="Thresholds: what the background is.")
    opening: int | None = Field(
        None, ge=0, le=16, description="Thresholds: radius in pixels of the opening; chosen if left out."
    )
    min_area: int = Field(3, ge=1, description="Thresholds: areas of fewer pixels are no defects.")
    registration: Literal["none", "shift", "rigid"] = Field(
        "shift", description="Golden, template: how the golden image is laid over an image; `rigid` turns a little too."
    )
    max_shift: float = Field(0.1, ge=0, le=0.25, description="Golden, template: shift at most, as a share of the side.")
    patch: float = Field(0.12, gt=0, le=0.5, description="Template: side of a patch as a share of the image's.")
    search: int = Field(2, ge=0, le=16, description="Template: pixels that a patch may have moved in each direction.")
    classifier: Literal["svm", "adaboost", "forest"] = Field(
        "svm", description="Texture: RBF support vector machine, AdaBoost or random forest."
    )


def fit(recipe: Recipe, store: Store, rows: NDArray[np.int64], out: Path) -> None:
    """Fit on the labelled `rows`; write `model.safetensors`, `history.csv` (one row) and `finetune.json` into `out`.

    Validation images are looked at once, for the record: nothing is chosen on them.

    Raises:
        UserError: an option is wrong, or the method cannot learn from these images.
    """
    options = validate(Options, recipe.finetune.options, recipe.name, "finetune.options")
    _check(options, store)
    if recipe.pretrain.method != "none":
        say("finetune: a classical detector has no encoder; pretrain.method=none spares its pretraining")
    if recipe.compute.threads:
        torch.set_num_threads(recipe.compute.threads)
    began = time.monotonic()
    spec = make_spec(recipe, store, options)
    fitted = KINDS[options.method].fit(labelled(store, rows, recipe.seed), spec.options)
    detector = ClassicalDetector(spec, fitted_tensors(fitted))
    found = validation(detector, store)
    seconds = time.monotonic() - began
    said = "no validation AUROC" if found is None else f"validation AUROC {found:.4f}"
    say(f"finetune: {options.method} fitted on {len(rows)} images, {said}, {minutes(seconds)} min")
    out.mkdir(parents=True, exist_ok=True)
    save_detector(out / MODEL, detector, {"method": "none", "origin": "no encoder"})
    row: dict[str, Any] = {"step": 1, "validation": found}
    write_history(out / HISTORY, [row])
    used = Counter(store.defects[row] for row in rows)
    summary = {
        "task": recipe.finetune.task,
        "classes": spec.classes,
        "labels": {name: used[name] for name in store.classes},
        "labels_per_class": recipe.finetune.labels_per_class,
        "best_step": None,
        "best_validation": found,
        "validation_metric": "AUROC",
        "steps": 1,
        "stopped_early": False,
        "seconds": round(seconds, 2),
        "precision": "float32",
        "losses": {},
        "batch_norm": "nothing",
        "origin": "no encoder",
        "method": options.method,
        "fitted": {name: np.asarray(value).item() for name, value in fitted.items() if np.ndim(value) == 0},
    }
    write_json(out / "finetune.json", summary)


def make_spec(recipe: Recipe, store: Store, options: Options) -> Spec:
    """What the detector is built from; of the recipe's backbone it knows nothing."""
    _, size, _, channels = store.images.shape
    return Spec(
        task=CLASSICAL,
        backbone="",
        image_size=int(size),
        channels=int(channels),
        classes=[GOOD, "defective"],
        options=options.model_dump(mode="json"),
        white=recipe.data.white,
    )


def labelled(store: Store, rows: NDArray[np.int64], seed: int) -> Labelled:
    """The labelled training images in memory."""
    masks = None if store.masks is None else np.asarray(store.masks[rows])
    return Labelled(np.asarray(store.images[rows]), store.labels[rows], masks, store.groups[rows], seed)


def validation(detector: ClassicalDetector, store: Store) -> float | None:
    """AUROC of the validation images; None where they are of one class."""
    rows = store.rows("val")
    if len(np.unique(store.labels[rows])) < 2:
        return None
    scores: list[Any] = []
    starts = range(0, len(rows), BATCH)
    for start in track(starts, len(starts), "finetune: validation"):
        pictures = np.ascontiguousarray(store.images[rows[start : start + BATCH]])
        scores.append(detector.method.predict(pictures)["score"])
    return float(roc_auc_score(store.labels[rows], np.concatenate(scores)))


def _check(options: Options, store: Store) -> None:
    side = store.images.shape[1]
    block = options.block or 0
    if block and (block % 2 == 0 or block > side or (block < 3)):
        raise UserError(
            f"finetune.options.block: {block} does not fit; accepted: odd numbers from 3 to the image size {side}, 0 "
            "for none, or leave it out"
        )
    if options.method == "adaptive" and options.block == 0:
        raise UserError("finetune.options.block: adaptive needs a neighbourhood; give 3 or more, or leave it out")
    if not len(store.rows("val")):
        raise UserError("finetune: there are no validation images; raise data.val_share")
