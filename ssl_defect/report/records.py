"""What the earlier stages left in a run's folder, read once; the page is a function of this and the recipe."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ssl_defect.artifacts import Record, read_json, read_record
from ssl_defect.config import Recipe
from ssl_defect.data.store import AUDIT, Store, open_store
from ssl_defect.errors import UserError

STAGES = ("prepare", "pretrain", "finetune", "evaluate")
DEFECTIVE = "defective"
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """A row of predictions.csv: one validation or test image.

    Attributes:
        row: its row in samples.csv, images.npy and masks.npy.
        score: in [0, 1], higher is more defective.
        verdict: `good` or `defective` at the threshold.
        area_true, area_predicted: share of defective pixels in [0, 1]; None without masks.
        value_true, value_predicted: grade or area of a regression; None for other tasks.
    """

    image: str
    row: int
    split: str
    group: int
    label: int
    defect: str
    score: float
    verdict: str
    correct: bool
    predicted_class: str
    area_true: float | None
    area_predicted: float | None
    value_true: float | None = None
    value_predicted: float | None = None


@dataclass(frozen=True)
class RunRecords:
    """All records of a run. Optional ones are None where the run has none.

    Attributes:
        predictions: the test images only, in the order of predictions.csv; `validation`: those of validation.
        maps: uint8 (n_test, S, S), probability * 255, in the order of `predictions`.
        gradcam, relevance: row -> uint8 (S, S), how a picture is explained; relevance for plain ViTs only.
        views: uint8 (n, rows, S, S, 3), pictures of the pretraining; `views_before`: the same before its first step.
        snapshots: "rows" (n,), "epochs" (k,), "pca" and "tsne" (k, n, 2); empty where the pretraining left none.
    """

    recipe: Recipe
    store: Store
    audit: dict[str, Any]
    pretrain: dict[str, Any]
    finetune: dict[str, Any]
    metrics: dict[str, Any]
    curves: dict[str, Any]
    predictions: list[Prediction]
    validation: list[Prediction] = field(default_factory=list)
    pretrain_history: list[dict[str, float | None]] = field(default_factory=list)
    finetune_history: list[dict[str, float | None]] = field(default_factory=list)
    embeddings: list[dict[str, str]] | None = None
    maps: Bytes | None = None
    gradcam: dict[int, Bytes] = field(default_factory=dict)
    relevance: dict[int, Bytes] = field(default_factory=dict)
    views: Bytes | None = None
    views_before: Bytes | None = None
    snapshots: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Record | None] = field(default_factory=dict)


def read_run(recipe: Recipe, run: Path) -> RunRecords:
    """Read every record of a run.

    Raises:
        UserError: a record that every run has is missing or damaged, or an optional one is damaged.
    """
    evaluate = run / "evaluate"
    embeddings = evaluate / "embeddings.csv"
    store, pictures = open_store(run / "prepare"), _arrays(run / "pretrain" / "pictures.npz")
    every = _predictions(evaluate / "predictions.csv")
    predictions = [row for row in every if row.split == "test"]
    return RunRecords(
        recipe=recipe,
        store=store,
        audit=read_json(run / "prepare" / AUDIT),
        pretrain=read_json(run / "pretrain" / "pretrain.json"),
        finetune=read_json(run / "finetune" / "finetune.json"),
        metrics=read_json(evaluate / "metrics.json"),
        curves=read_json(evaluate / "curves.json"),
        predictions=predictions,
        validation=[row for row in every if row.split == "val"],
        pretrain_history=_history(run / "pretrain" / "history.csv"),
        finetune_history=_history(run / "finetune" / "history.csv"),
        embeddings=_rows(embeddings) if embeddings.exists() else None,
        maps=_maps(evaluate / "maps.npy", len(predictions)),
        gradcam=_explained(evaluate / "gradcam.npz", "cam"),
        relevance=_explained(evaluate / "gradcam.npz", "relevance"),
        views=pictures.get("views"),
        views_before=pictures.get("before"),
        snapshots=_snapshots(run / "pretrain" / "snapshots.npz", len(store.samples)),
        stages={stage: read_record(run / stage) for stage in STAGES},
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run `ssl-defect {path.parent.name}` first") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    stage = path.parent.name
    return UserError(f"{path}: damaged; delete the folder {stage} and run `ssl-defect {stage}` again")


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _predictions(path: Path) -> list[Prediction]:
    rows = _rows(path)
    try:
        return [_prediction(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error


def _prediction(row: dict[str, str]) -> Prediction:
    return Prediction(
        image=row["image"],
        row=int(row["row"]),
        split=row["split"],
        group=int(row["group"]),
        label=int(row["label"]),
        defect=row["defect"],
        score=float(row["score"]),
        verdict=row["verdict"],
        correct=row["correct"] in {"1", "True", "true"},
        predicted_class=row.get("predicted_class", ""),
        area_true=_number(row.get("area_true")),
        area_predicted=_number(row.get("area_predicted")),
        value_true=_number(row.get("value_true")),
        value_predicted=_number(row.get("value_predicted")),
    )


def _history(path: Path) -> list[dict[str, float | None]]:
    if not path.exists():
        return []
    try:
        return [{key: _number(value) for key, value in row.items()} for row in _rows(path)]
    except (TypeError, ValueError) as error:
        raise _damaged(path) from error


def _maps(path: Path, count: int) -> Bytes | None:
    if not path.exists():
        return None
    try:
        maps: Bytes = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _damaged(path) from error
    if maps.ndim != 3 or len(maps) != count:
        raise _damaged(path)
    return maps


def _arrays(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays.items())
    except (ValueError, EOFError, BadZipFile) as error:
        raise _damaged(path) from error


def _snapshots(path: Path, images: int) -> dict[str, Any]:
    arrays = _arrays(path)
    if not arrays:
        return {}
    if not {"rows", "epochs", "pca", "tsne"} <= arrays.keys():
        raise _damaged(path)
    wanted = (len(arrays["epochs"]), len(arrays["rows"]), 2)
    if not wanted[0] * wanted[1] or {arrays["pca"].shape, arrays["tsne"].shape} != {wanted}:
        raise _damaged(path)
    if arrays["rows"].min() < 0 or arrays["rows"].max() >= images:
        raise _damaged(path)
    return arrays


def _explained(path: Path, kind: str) -> dict[int, Bytes]:
    arrays = _arrays(path)
    if not {"rows", kind} <= arrays.keys():
        return {}
    return {int(row): values for row, values in zip(arrays["rows"], arrays[kind], strict=True)}
