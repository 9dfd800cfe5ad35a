"""The operating point: what a threshold finds, misses and costs. `operating.js` follows the formulas of `cuts.py`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from markupsafe import Markup

from ssl_defect.report.cuts import Array, Point, Scores, points, sides
from ssl_defect.report.figures import Series, curve
from ssl_defect.report.histogram import bounds_of, score_histogram
from ssl_defect.report.numbers import counted, rate, shown
from ssl_defect.report.records import RunRecords
from ssl_defect.report.svg import tick_text, ticks

CURVE_POINTS = 400


def section(records: RunRecords) -> dict[str, Any]:
    """Everything that the operating point shows."""
    threshold = records.metrics["threshold"]
    test, validation = sides(records.predictions), sides(records.validation)
    if not test.both or threshold["value"] is None:
        why = "no threshold was chosen" if test.both else "the test images hold one class only"
        return {"why": why}
    found = points((threshold["value"], f"chosen: {threshold['rule']}"), test, validation)
    bounds = bounds_of([*test.good[[0, -1]], *test.defective[[0, -1]], threshold["value"]])
    return {
        "why": "",
        "rows": [_row(point) for point in found],
        "note": _note(found[0], found[-1], test),
        "chosen_on": counted(len(validation.good) + len(validation.defective), "validation image")
        if validation.both
        else "",
        "histogram": score_histogram(test.good, test.defective, bounds, "Scores of the test images, by label"),
        "bounds": bounds,
        "ticks": [(tick_text(x), 100 * (x - bounds[0]) / (bounds[1] - bounds[0])) for x in ticks(*bounds)],
        "curves": _curves(test, found[0]),
        "data": _data(test, validation, bounds, records.metrics),
    }


def _row(point: Point) -> dict[str, Any]:
    return {
        "name": point.name[0].upper() + point.name[1:],
        "chosen_on": point.chosen_on,
        "exact": repr(point.threshold),
        "threshold": f"{point.threshold:.4g}",
        "precision": shown(point.precision),
        "recall": shown(point.recall),
        "f1": shown(point.f1),
        "missed": rate(1000 * (1 - point.recall)),
        "alarms": rate(1000 * point.alarm_rate),
    }


def _note(chosen: Point, best: Point, test: Scores) -> str:
    """How much better the test figures look when the threshold is chosen on the test images themselves."""
    gain = best.f1 - chosen.f1
    if gain < 0.0005:
        return "Here the chosen threshold already gives the largest F1 on the test images."
    images = counted(len(test.good) + len(test.defective), "test image")
    return (
        f"On these {images} the largest F1 is {best.f1:.3f}, at {best.threshold:.4g}; the threshold chosen on "
        f"validation gives {chosen.f1:.3f}. The {gain:.3f} between them is what choosing by looking adds to the "
        "figures without finding anything more on the line."
    )


def _curves(test: Scores, chosen: Point) -> list[dict[str, Any]]:
    """ROC and PR through every cut (thinned), with a fixed mark at the chosen threshold and one that moves."""
    missed, alarms = (count[::-1] for count in test.wrong(test.cuts()))
    found = len(test.defective) - missed
    fpr, recall = alarms / len(test.good), found / len(test.defective)
    precision = np.divide(found, found + alarms, out=np.ones(len(found)), where=found + alarms > 0)
    best = 1.0 if chosen.precision is None else chosen.precision
    roc, pr, floor = _thinned(fpr, recall), _thinned(recall, precision), test.share
    axes = (("false-positive rate", "true-positive rate"), ("recall", "precision"))
    alt = "{} of the test images; the rings are the chosen operating point and the present one"
    roc_marks, pr_marks = [(chosen.alarm_rate, chosen.recall)], [(chosen.recall, best)]
    return [
        {"title": "ROC", "figure": curve(roc, axes[0], alt.format("ROC"), roc_marks, [(0, 0), (1, 1)], "roc")},
        {
            "title": "Precision-recall",
            "figure": curve(
                pr, axes[1], alt.format("Precision against recall"), pr_marks, [(0, floor), (1, floor)], "pr"
            ),
        },
    ]


def _thinned(xs: Array, ys: Array) -> Series:
    """At most `CURVE_POINTS` of the points, evenly spaced along the curve."""
    length = np.append(0.0, np.cumsum(np.abs(np.diff(xs)) + np.abs(np.diff(ys))))
    keep = np.unique(np.append(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS - 1)), len(xs) - 1))
    return Series(xs[keep].tolist(), ys[keep].tolist())


def _data(test: Scores, validation: Scores, bounds: tuple[float, float], metrics: dict[str, Any]) -> Markup:
    """What the script needs, as JSON that cannot end its block: scores in rising order, in full precision."""
    whole = {
        "test": _side(test),
        "validation": _side(validation) if validation.both else None,
        "threshold": metrics["threshold"]["value"],
        "rule": metrics["threshold"]["rule"],
        "split_digest": metrics["protocol"]["split_digest"],
        "bounds": bounds,
    }
    return Markup(json.dumps(whole, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _side(scores: Scores) -> dict[str, Any]:
    return {"good": scores.good.tolist(), "defective": scores.defective.tolist(), "top": scores.top}
