"""Whether a score means what it says, and how small a defect is still found: drawn as metrics.json has them."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from ssl_defect.report.figures import Dot, interval_dots
from ssl_defect.report.numbers import hook, hooked, metric, shown, whole
from ssl_defect.report.records import RunRecords
from ssl_defect.report.svg import Frame, axes, line, picture, short, tag

NAMES = {"ece": "Expected calibration error", "brier": "Brier score"}


def calibration(records: RunRecords) -> dict[str, Any] | None:
    """The reliability diagram with its bins, the expected calibration error and the Brier score.

    None where metrics.json has none: without both classes, or of before it did.
    """
    found = records.metrics.get("calibration")
    if not found:
        return None
    return {
        "figure": _diagram(found["bins"]),
        "rows": [(NAMES["ece"], _error(found["ece"])), (NAMES["brier"], metric("calibration.brier", found["brier"]))],
        "bins": [_bin(f"calibration.bins.{number}", one) for number, one in enumerate(found["bins"])],
        "probability": _meant(records),
    }


def _error(found: dict[str, Any]) -> Markup:
    """The value, and what a right score would have; of before that was kept, the value alone."""
    value, chance = hooked("calibration.ece.value", found["value"], shown(found["value"])), found.get("chance")
    if not chance:
        return value
    ends = (hooked(f"calibration.ece.chance.{end}", chance[end], shown(chance[end])) for end in ("low", "high"))
    told = Markup('{}<br><span class="interval">a right score: {} to {}</span>')
    return told.format(value, *ends)


def _meant(records: RunRecords) -> bool:
    """Whether the score was made to be a probability."""
    anomaly = records.recipe.anomaly
    if records.metrics["protocol"]["task"] == "anomaly":
        return bool(anomaly and anomaly.options.get("calibration") == "logistic")
    return bool(records.metrics["protocol"]["task"] != "classical")


def _bin(path: str, one: dict[str, Any]) -> dict[str, Any]:
    low, high = (hooked(f"{path}.{end}", one[end], f"{one[end]:g}") for end in ("low", "high"))
    return {
        "range": Markup("{} to {}").format(low, high),
        "images": whole(f"{path}.images", one["images"]),
        "score": hooked(f"{path}.score", one["score"], shown(one["score"])),
        "defective": metric(f"{path}.defective", one["defective"]),
    }


def _diagram(bins: list[dict[str, Any]]) -> Markup:
    """Share of defective images against the mean score of each bin: dots as large as the bins are full."""
    frame = Frame((0.0, 1.0), (0.0, 1.0))
    parts = [axes(frame, "mean score of the bin", "share that is defective"), line(frame, [0, 1], [0, 1], "chance")]
    most = max(one["images"] for one in bins)
    for number, one in enumerate(bins):
        x, bad = frame.across(one["score"]), one["defective"]
        if bad["low"] is not None:
            low, high = (short(frame.down(bad[end])) for end in ("low", "high"))
            parts.append(tag("path", class_="whisker", d=f"M{short(x)} {low}V{high}"))
        marks = hook(f"calibration.bins.{number}.defective.value", bad["value"])
        radius = 3 + 9 * math.sqrt(one["images"] / most)
        parts.append(tag("circle", class_="dot", cx=x, cy=frame.down(bad["value"]), r=radius, **marks))
    return picture(frame, parts, "Share of defective images by mean score of the bins in the table beside it")


def by_area(records: RunRecords) -> dict[str, Any] | None:
    """Recall of defective test images by the share of the picture that is drawn as defective.

    None where metrics.json has none: too few with a mask, or of before it did.
    """
    found = records.metrics.get("sizes")
    if not found or records.metrics["threshold"]["value"] is None:
        return None
    rows = [_size(f"sizes.{number}", one) for number, one in enumerate(found)]
    dots = [
        Dot(row["label"], one["recall"]["value"], one["recall"]["low"], one["recall"]["high"], row["path"])
        for one, row in zip(found, rows, strict=True)
    ]
    return {"rows": rows, "figure": interval_dots(dots, "recall by area of the defect", ALT)}


ALT = "Recall with its interval by area of the defect, as in the table beside it"


def _size(path: str, one: dict[str, Any]) -> dict[str, Any]:
    ends = [(f"{path}.area.{number}", end, f"{100 * end:.2g}%") for number, end in enumerate(one["area"])]
    if one["area"][0] == one["area"][1]:
        ends = ends[:1]
    to = Markup(" to ")
    return {
        "area": to.join(hooked(*end) for end in ends),
        "label": to.join(tag("tspan", text, **hook(place, end)) for place, end, text in ends),
        "images": whole(f"{path}.images", one["images"]),
        "recall": metric(f"{path}.recall", one["recall"]),
        "path": f"{path}.recall.value",
    }
