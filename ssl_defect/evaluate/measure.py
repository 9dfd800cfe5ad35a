"""The numbers of an evaluation: metrics of the test images with intervals, overall and per defect class, and curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.artifacts import read_json
from ssl_defect.evaluate import delong
from ssl_defect.evaluate.bootstrap import intervals
from ssl_defect.evaluate.calibration import calibration
from ssl_defect.evaluate.curves import curves
from ssl_defect.evaluate.inference import Runner
from ssl_defect.evaluate.metrics import class_matrix, confusion, image_family, subset
from ssl_defect.evaluate.pixels import Pixels
from ssl_defect.evaluate.results import Results
from ssl_defect.evaluate.sizes import recall_by_area
from ssl_defect.evaluate.task_metrics import task_metrics


def measure(results: Results, runner: Runner, pixel: Pixels | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `metrics.json` and `curves.json` hold; `pixel`: None where there are no maps or no masks."""
    labels, scores, threshold = results.labels, results.scores, results.image.value
    groups = results.groups
    metrics = {
        "protocol": _protocol(results, runner),
        "threshold": _threshold(results),
        "counts": {
            "test": len(labels),
            "good": int((labels == 0).sum()),
            "defective": int((labels > 0).sum()),
            "groups": len(np.unique(groups)),
        },
        "interval": {
            "level": results.spec.level,
            "draws": results.spec.draws,
            "unit": "near-copy group",
            "method": "jackknife, Student's t, logit scale",
        },
        "image": {
            **_image(results),
            "confusion": confusion(labels, scores, threshold),
        },
        "pixel": pixel.measure(np.ones(len(labels), bool)) if pixel else None,
        "classes": _classes(results, pixel),
        "calibration": calibration(labels, scores, groups, results.spec),
        "sizes": _sizes(results),
        "task": task_metrics(results, runner.detector.spec),
        "class_confusion": _class_confusion(results, runner.detector.spec.classes),
        "precision": runner.precision,
        "ms_per_image": round(1000 * results.found.seconds / len(results.found.rows), 3),
    }
    return metrics, curves(results, pixel)


def _image(results: Results) -> dict[str, Any]:
    labels, scores, groups = results.labels, results.scores, results.groups
    found = intervals(image_family(labels, scores, results.image.value), groups, results.spec)
    beside = delong.interval(labels, scores, groups, results.spec.level)
    if beside["low"] is not None:
        found["auroc"]["delong"] = {"low": beside["low"], "high": beside["high"]}
    return found


def _threshold(results: Results) -> dict[str, Any]:
    return {
        "value": results.image.value,
        "rule": results.image.rule,
        "source": "validation",
        "false_alarms": results.image.false_alarms,
        "pixel": results.pixel.value if results.pixel else None,
        "pixel_rule": results.pixel.rule if results.pixel else None,
    }


def _protocol(results: Results, runner: Runner) -> dict[str, Any]:
    data = results.recipe.data
    audit = read_json(results.store.folder / "audit.json")
    return {
        "name": audit.get("protocol", data.protocol),
        "split": audit.get("split", data.split),
        "split_digest": audit.get("split_digest", ""),
        "task": runner.detector.spec.task,
        "labels_per_class": results.recipe.finetune.labels_per_class,
        "image_size": results.store.images.shape[1],
        "mask_rule": audit.get("mask_rule", ""),
        "seed": results.recipe.seed,
        "threshold_source": "validation",
    }


def _classes(results: Results, pixel: Pixels | None) -> dict[str, Any]:
    found = {}
    for name, wanted in results.by_class().items():
        rows = np.flatnonzero(wanted)
        labels = results.labels[rows]
        family = image_family(labels, results.scores[rows], results.image.value)
        image = intervals(subset(family, rows), results.groups, results.spec)
        found[name] = {
            "images": int((labels > 0).sum()),
            "image": {metric: image[metric] for metric in ("auroc", "ap", "recall")},
            "pixel": pixel.measure(wanted) if pixel else None,
        }
    return found


def _sizes(results: Results) -> list[dict[str, Any]] | None:
    masks = results.store.masks
    if masks is None:
        return None
    drawn = np.flatnonzero((results.labels > 0) & results.masked[results.split :])
    areas = np.array([round(float(masks[row].mean()), 6) for row in results.test[drawn]])
    hits = results.scores[drawn] >= results.image.value
    return recall_by_area(areas, hits, results.groups[drawn], results.spec.level)


def _class_confusion(results: Results, classes: list[str]) -> dict[str, Any] | None:
    if results.found.probabilities is None or len(classes) < 3:
        return None
    every = [*classes, *sorted(set(results.defects) - set(classes))]
    predicted = [classes[i] for i in results.found.probabilities[results.split :].argmax(1)]
    return {"classes": every, "matrix": class_matrix(every, results.defects, predicted)}
