"""Files of an evaluation that are no JSON: one row per image, maps and Grad-CAM arrays; all written atomically."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from ssl_defect.artifacts import atomic
from ssl_defect.data.records import GOOD
from ssl_defect.evaluate.embed import embed, spread_over, turned
from ssl_defect.evaluate.inference import Predictions
from ssl_defect.evaluate.metrics import Array
from ssl_defect.evaluate.results import Results
from ssl_defect.nets.detector import Spec
from ssl_defect.nets.heads import SEPARATOR

DEFECTIVE = "defective"
PREDICTIONS = (
    *("image", "row", "split", "group", "label", "defect", "score", "verdict"),
    *("correct", "predicted_class", "area_true", "area_predicted", "value_true", "value_predicted"),
)
PROJECTIONS = ("pca", "tsne", "umap")
PLACES = tuple(f"{name}_{axis}" for name in PROJECTIONS for axis in "xy")
EMBEDDINGS = ("row", "split", "label", "defect", *PLACES)
BEFORE = tuple(f"before_{name}" for name in PLACES)


def write_predictions(path: Path, results: Results, spec: Spec) -> None:
    """One row per validation and test image; areas are shares of the picture, and what is unknown is empty."""
    _write_csv(path, PREDICTIONS, [_prediction(results, i, spec) for i in range(len(results.found.rows))])


def _prediction(results: Results, i: int, spec: Spec) -> list[Any]:
    found, row = results.found, int(results.found.rows[i])
    sample = results.store.samples[row]
    score = float(found.scores[i])
    called = score >= results.image.value
    true: Any = ""
    predicted: Any = ""
    if results.pixel and found.maps is not None:
        predicted = round(float((found.maps[i] >= np.float32(results.pixel.value)).mean()), 6)
        if results.masked[i] and results.store.masks is not None:
            true = round(float(results.store.masks[row].mean()), 6)
    return [
        sample.image,
        row,
        sample.split,
        sample.group,
        sample.label,
        sample.defect,
        repr(score),
        DEFECTIVE if called else GOOD,
        int(called == (sample.label > 0)),
        _predicted(found, i, spec.classes),
        true,
        predicted,
        *_values(results, i, spec),
    ]


def _values(results: Results, i: int, spec: Spec) -> tuple[Any, Any]:
    """The true and the predicted grade or area of a regression; empty where unknown, or for another task."""
    if "value" not in results.found.others:
        return "", ""
    sample = results.store.samples[int(results.found.rows[i])]
    area = "" if sample.label and not sample.area else sample.area
    true = sample.grade if spec.options.get("target") == "grade" else area
    return "" if true is None else true, repr(round(float(results.found.others["value"][i]), 6))


def _predicted(found: Predictions, i: int, classes: list[str]) -> str:
    """The likeliest class; of labels all from one half upwards, or good; empty where the detector tells none apart."""
    if "labels" in found.others:
        labels = [name for name, p in zip(classes[1:], found.others["labels"][i], strict=True) if p >= 0.5]
        return SEPARATOR.join(labels) or GOOD
    return "" if found.probabilities is None else classes[int(found.probabilities[i].argmax())]


def write_maps(path: Path, results: Results) -> None:
    """Maps of the test images as uint8 (n_test, S, S), probability * 255; nothing where the detector has none."""
    maps = results.found.maps
    if maps is None:
        return
    with atomic(path) as temporary:
        shape = (len(results.test), *maps.shape[1:])
        kept = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        for i in range(len(kept)):
            kept[i] = np.rint(maps[results.split + i] * 255)
        kept.flush()


def write_embeddings(path: Path, results: Results) -> None:
    """Coordinates of at most 2,000 images: of the test images, and of validation what room they leave.

    A projection that says nothing of so few images is left empty. Where there are features from before fine-tuning,
    further columns hold their places, each map turned to lie on the one after it.
    """
    picked = spread_over(len(results.test), results.split)
    places = embed(results.found.features[picked], results.recipe.seed)
    maps = [places[name] for name in PROJECTIONS]
    if results.found.features_before is not None:
        earlier = embed(results.found.features_before[picked], results.recipe.seed)
        maps += [turned(earlier[name], places[name]) for name in PROJECTIONS]
    rows = []
    for i, position in enumerate(picked):
        row = int(results.found.rows[position])
        sample = results.store.samples[row]
        cells = [f"{value:.5g}" if np.isfinite(value) else "" for one in maps for value in one[i]]
        rows.append([row, sample.split, sample.label, sample.defect, *cells])
    _write_csv(path, EMBEDDINGS + (BEFORE if len(maps) > len(PROJECTIONS) else ()), rows)


def write_arrays(path: Path, **arrays: Array) -> None:
    """Named arrays as a compressed .npz file."""
    named: dict[str, Any] = dict(arrays)  # NumPy before 2.1 has no `allow_pickle` here and would keep it as an array
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **named)


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
