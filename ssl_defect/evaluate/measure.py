"""The numbers of an evaluation: metrics of the test images with intervals, overall and per defect class, and curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.artifacts import read_json
from ssl_defect.evaluate import delong, regions
from ssl_defect.evaluate.bands import bands
from ssl_defect.evaluate.bootstrap import intervals
from ssl_defect.evaluate.inference import Runner
from ssl_defect.evaluate.metrics import (
    Array,
    class_matrix,
    confusion,
    counts_at_levels,
    image_family,
    pr_curve,
    roc_curve,
    subset,
)
from ssl_defect.evaluate.results import Results, count
from ssl_defect.evaluate.task_metrics import task_metrics


def measure(results: Results, runner: Runner) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `metrics.json` and `curves.json` hold."""
    labels, scores, threshold = results.labels, results.scores, results.image.value
    groups = results.groups
    pixel = _Pixels(results) if results.pixel else None
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
            "method": "bootstrap, logit scale",
        },
        "image": {
            **_image(results),
            "confusion": confusion(labels, scores, threshold),
        },
        "pixel": pixel.measure(np.ones(len(labels), bool)) if pixel else None,
        "classes": _classes(results, pixel),
        "task": task_metrics(results, runner.detector.spec),
        "class_confusion": _class_confusion(results, runner.detector.spec.classes),
        "precision": runner.precision,
        "ms_per_image": round(1000 * results.found.seconds / len(results.found.rows), 3),
    }
    return metrics, _curves(results, pixel)


def _image(results: Results) -> dict[str, Any]:
    labels, scores, groups = results.labels, results.scores, results.groups
    found = intervals(image_family(labels, scores, results.image.value), groups, results.spec)
    beside = delong.interval(labels, scores, groups, results.spec.level)
    if beside["low"] is not None:
        found["auroc"]["delong"] = {"low": beside["low"], "high": beside["high"]}
    return found


def _curves(results: Results, pixel: _Pixels | None) -> dict[str, Any]:
    counts = counts_at_levels(results.labels, results.scores)
    spread = bands(results.labels, results.scores, results.groups, results.spec)
    curves = {"roc": roc_curve(*counts), "pr": pr_curve(*counts), "bands": spread}
    return {**curves, **(pixel.curves() if pixel else {"pixel_roc": None, "pixel_pr": None, "pro": None})}


def _threshold(results: Results) -> dict[str, Any]:
    return {
        "value": results.image.value,
        "rule": results.image.rule,
        "source": "validation",
        "false_alarms": results.image.false_alarms,
        "pixel": results.pixel.value if results.pixel else None,
        "pixel_rule": results.pixel.rule if results.pixel else None,
    }


class _Pixels:
    """Counts of the test maps, and the metrics of any part of them."""

    def __init__(self, results: Results) -> None:
        assert results.pixel is not None
        assert results.found.maps is not None
        self.results, self.threshold = results, results.pixel.value
        self.known = results.masked[results.split :]
        keep = results.split + np.flatnonzero(self.known)
        self.counts = count(results.found.maps, results.store, results.found.rows, keep, self.threshold)
        self.groups = results.groups[self.known]

    def measure(self, wanted: Array) -> dict[str, Any]:
        """Metrics with intervals of the test images where `wanted` (n_test,) is True and the mask is known."""
        part = np.flatnonzero(wanted[self.known])
        limit = self.results.recipe.evaluate.aupro_limit
        counts = self.counts if len(part) == len(self.groups) else regions.take(self.counts, part)
        family = subset(regions.pixel_family(counts, self.threshold, limit), part)
        found = intervals(family, self.groups, self.results.spec)
        return {**found, "aupro_limit": limit, "images": len(part)}

    def curves(self) -> dict[str, Any]:
        """Pixel ROC, pixel PR and the PRO curve of all test maps."""
        tp, fp = regions.totals(self.counts)
        return {
            "pixel_roc": roc_curve(tp, fp, self.counts.levels),
            "pixel_pr": pr_curve(tp, fp, self.counts.levels),
            "pro": regions.pro_curve(self.counts),
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


def _classes(results: Results, pixel: _Pixels | None) -> dict[str, Any]:
    defects, labels = np.array(results.defects), results.labels
    found = {}
    for name in sorted(set(defects[labels > 0])):
        wanted = (labels == 0) | ((labels > 0) & (defects == name))
        rows = np.flatnonzero(wanted)
        family = image_family(labels[rows], results.scores[rows], results.image.value)
        image = intervals(subset(family, rows), results.groups, results.spec)
        found[str(name)] = {
            "images": int((labels[rows] > 0).sum()),
            "image": {metric: image[metric] for metric in ("auroc", "ap", "recall")},
            "pixel": pixel.measure(wanted) if pixel else None,
        }
    return found


def _class_confusion(results: Results, classes: list[str]) -> dict[str, Any] | None:
    if results.found.probabilities is None or len(classes) < 3:
        return None
    every = [*classes, *sorted(set(results.defects) - set(classes))]
    predicted = [classes[i] for i in results.found.probabilities[results.split :].argmax(1)]
    return {"classes": every, "matrix": class_matrix(every, results.defects, predicted)}
