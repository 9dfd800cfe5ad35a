"""What `curves.json` holds: ROC, precision-recall and PRO with their bands, of all test images and of each class."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.evaluate.bands import bands
from ssl_defect.evaluate.metrics import Array, counts_at_levels, pr_curve, roc_curve, thin
from ssl_defect.evaluate.pixels import Pixels
from ssl_defect.evaluate.results import Results

CLASS_POINTS = 100  # of a curve of one class, which is drawn small


def curves(results: Results, pixel: Pixels | None) -> dict[str, Any]:
    """Curves by name, beside them "bands" (None where none can be drawn) and "classes", each with curves and bands."""
    labels, scores, groups = results.labels, results.scores, results.groups
    found = _image(labels, scores)
    spread = bands(labels, scores, groups, results.spec) or {}
    whole: dict[str, Any] = {"pixel_roc": None, "pixel_pr": None, "pro": None}
    if pixel:
        whole, more = pixel.curves(np.ones(len(labels), bool))
        spread = {**spread, **more}
    return {**found, **whole, "bands": spread or None, "classes": _classes(results, pixel)}


def _image(labels: Array, scores: Array) -> dict[str, Any]:
    counts = counts_at_levels(labels, scores)
    return {"roc": roc_curve(*counts), "pr": pr_curve(*counts)}


def _classes(results: Results, pixel: Pixels | None) -> dict[str, Any]:
    """ROC, precision-recall and PRO of each defect class against all good images."""
    found = {}
    for name, wanted in results.by_class().items():
        labels, scores = results.labels[wanted], results.scores[wanted]
        one = _image(labels, scores)
        spread = bands(labels, scores, results.groups[wanted], results.spec) or {}
        if pixel:
            whole, more = pixel.curves(wanted)
            one["pro"] = whole["pro"]
            spread = {**spread, **{key: band for key, band in more.items() if key == "pro"}}
        found[name] = {**{key: _thinner(curve) for key, curve in one.items()}, "bands": spread or None}
    return found


def _thinner(curve: dict[str, list[Any]] | None) -> dict[str, list[Any]] | None:
    """`CLASS_POINTS` points of a curve at most, without their thresholds."""
    if not curve:
        return None
    axes = {name: values for name, values in curve.items() if name != "threshold"}
    x, y = (np.array(values) for values in axes.values())
    keep = thin(x, y, CLASS_POINTS)
    return {name: [values[i] for i in keep] for name, values in axes.items()}
