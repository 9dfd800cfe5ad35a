"""Tables and curves of the test metrics."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ssl_defect.report import curves
from ssl_defect.report.figures import Dot, agreement, interval_dots
from ssl_defect.report.histogram import score_bars
from ssl_defect.report.numbers import hooked, metric, part, share, whole
from ssl_defect.report.records import DEFECTIVE, RunRecords
from ssl_defect.report.reliability import by_area, calibration

NAMES = {
    "auroc": "AUROC",
    "ap": "Average precision",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "accuracy": "Accuracy",
    "iou": "IoU",
    "dice": "Dice",
    "aupro": "AUPRO",
}
MEANINGS = {
    "auroc": "chance that a defective one scores above a good one",
    "ap": "area under the precision-recall curve",
    "precision": "share of the alarms that are real",
    "recall": "share of the defective ones found",
    "f1": "harmonic mean of precision and recall",
    "accuracy": "share of right verdicts",
    "iou": "overlap of drawn and predicted defect over their union",
    "dice": "twice the overlap over the sum of both areas",
}


COUNTS = ("test", "good", "defective", "groups")


def section(records: RunRecords) -> dict[str, Any]:
    """Everything that the results show."""
    metrics = records.metrics
    return {
        "counts": {key: whole(f"counts.{key}", metrics["counts"][key]) for key in COUNTS},
        "one": {key: metrics["counts"][key] == 1 for key in COUNTS},
        "level": hooked("interval.level", metrics["interval"]["level"], f"{100 * metrics['interval']['level']:g}%"),
        "image": _rows(metrics["image"], "image"),
        "pixel": _rows(metrics["pixel"], "pixel") if metrics.get("pixel") else [],
        "why_no_pixel": _why_no_pixel(metrics),
        "aupro_limit": _limit(metrics.get("pixel") or {}),
        "task": _task(metrics.get("task"), records),
        "classes": _classes(metrics),
        "class_figure": _class_figure(metrics),
        "scores": _scores(records),
        "curves": curves.section(records),
        "calibration": calibration(records),
        "areas": by_area(records),
        "confusion": _confusion(metrics),
        "class_confusion": _class_confusion(metrics.get("class_confusion")),
    }


def _rows(block: dict[str, Any], path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "meaning": MEANINGS.get(key, ""), "cell": metric(f"{path}.{key}", block[key])}
        for key, name in NAMES.items()
        if key in block
    ]


def _task(block: dict[str, Any] | None, records: RunRecords) -> dict[str, Any] | None:
    """What only this task is judged by: rows of all images, and a table of classes where there is one."""
    if not block:
        return None
    names: dict[str, str] = block["names"]
    rows = [
        {"name": names.get(key, key), "cell": metric(f"task.metrics.{key}", found)}
        for key, found in block["metrics"].items()
    ]
    classes = block.get("classes") or {}
    heads = list(dict.fromkeys(key for found in classes.values() for key in found))
    table = [
        {"name": name, "cells": [metric(f"task.classes.{name}.{key}", found.get(key)) for key in heads]}
        for name, found in classes.items()
    ]
    return {
        "title": block["title"],
        "note": block.get("note", ""),
        "rows": rows,
        "heads": [names.get(key, key) for key in heads],
        "classes": table,
        "agreement": _agreement(records),
    }


def _agreement(records: RunRecords) -> Markup | None:
    """True and predicted values of the test images, where there are any."""
    rows = [(row.value_true, row.value_predicted) for row in records.predictions]
    pairs = [(true, found) for true, found in rows if true is not None and found is not None]
    if not pairs:
        return None
    alt = f"Predicted against true values of {len(pairs)} test images; on the dashed line both are equal."
    return agreement(pairs, ("true", "predicted"), alt)


def _limit(pixel: dict[str, Any]) -> Markup | None:
    limit = pixel.get("aupro_limit")
    return None if limit is None else hooked("pixel.aupro_limit", limit, share(limit))


def _why_no_pixel(metrics: dict[str, Any]) -> str:
    if metrics["protocol"]["task"] == "segmentation":
        return "No pixel metrics: the test images have no usable masks."
    return "No pixel metrics: this detector gives a score per image, no map."


def _classes(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, facts in (metrics.get("classes") or {}).items():
        path, pixel = f"classes.{name}", facts.get("pixel") or {}
        found.append(
            {
                "name": name,
                "images": whole(f"{path}.images", facts["images"]),
                "cells": [metric(f"{path}.image.{key}", facts["image"].get(key)) for key in ("auroc", "ap", "recall")],
                "pixel": [metric(f"{path}.pixel.{key}", pixel.get(key)) for key in ("aupro", "iou")],
            }
        )
    return found


def _class_figure(metrics: dict[str, Any]) -> Markup:
    rows = []
    blocks = [("all defects", "image", metrics["image"])]
    blocks += [
        (name, f"classes.{name}.image", facts["image"]) for name, facts in (metrics.get("classes") or {}).items()
    ]
    for name, path, block in blocks:
        entry = block["auroc"]
        if entry["value"] is not None:
            rows.append(Dot(name, entry["value"], entry["low"], entry["high"], f"{path}.auroc.value"))
    if len(rows) < 3:
        return Markup("")
    return interval_dots(rows, "AUROC against all good images", "AUROC with its interval for each defect class")


def _scores(records: RunRecords) -> Markup:
    good = [one.score for one in records.predictions if one.label == 0]
    bad = [one.score for one in records.predictions if one.label == 1]
    alt = (
        "Scores of good images (upwards) and of defective ones (downwards) with the threshold; the confusion matrix "
        "gives the counts on each side"
    )
    return score_bars(good, bad, records.metrics["threshold"]["value"], alt)


def _confusion(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    cells = metrics["image"]["confusion"]
    rows = []
    for truth, keys in (("good", ("tn", "fp")), (DEFECTIVE, ("fn", "tp"))):
        total, row = sum(cells[key] for key in keys), " + ".join(f"image.confusion.{key}" for key in keys)
        rows.append(
            {
                "truth": truth,
                "cells": [
                    {
                        "count": whole(f"image.confusion.{key}", cells[key]),
                        "share": cells[key] / total if total else 0.0,
                        "text": part(f"image.confusion.{key}", row, cells[key] / total) if total else "",
                        "right": key in {"tn", "tp"},
                    }
                    for key in keys
                ],
            }
        )
    return rows


def _class_confusion(block: dict[str, Any] | None) -> dict[str, Any] | None:
    if not block or len(block["classes"]) < 3:
        return None
    rows = []
    for row, (name, counts) in enumerate(zip(block["classes"], block["matrix"], strict=True)):
        total, path = sum(counts), f"class_confusion.matrix.{row}"
        cells = [
            {
                "count": whole(f"{path}.{column}", count),
                "share": count / total if total else 0.0,
                "text": part(f"{path}.{column}", path, count / total) if total else "",
                "right": row == column,
            }
            for column, count in enumerate(counts)
        ]
        rows.append({"truth": name, "cells": cells})
    return {"classes": block["classes"], "rows": rows}
