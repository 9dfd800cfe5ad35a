"""What the script needs of the embeddings beside the figures: which image a point is, and its other colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps

from ssl_defect.report import gallery
from ssl_defect.report.pictures import aspect_of, inline, packed
from ssl_defect.report.records import Prediction, RunRecords
from ssl_defect.report.svg import SHAPES, marker, swatch

ERRORS = {"right": "right at the threshold", "miss": "miss", "alarm": "false alarm", "": "not judged"}
THUMBS, SIDE, BYTES = 1000, 64, 1_500  # own pictures, where the gallery has none: how many, pixels, bytes of each
FEW = 600  # as many points are drawn a little larger

Rows = list[dict[str, str]]


def section(records: RunRecords, rows: Rows, classes: list[str]) -> dict[str, Any]:
    """`modes`: what else the points can be coloured by, each with its legend; `data`: JSON for the script.

    Args:
        rows: of embeddings.csv.
        classes: those drawn, in the order in which the figures draw them.
    """
    points = [row for name in classes for row in rows if row["defect"] == name]
    judged = {one.row: one for one in records.predictions}
    splits = [split for split in ("train", "val", "test") if any(row["split"] == split for row in points)]
    modes = [_mode("error", "error", ERRORS, [_error(judged.get(int(row["row"]))) for row in points])]
    if len(splits) > 1:
        modes.append(_mode("split", "split", {name: name for name in splits}, [row["split"] for row in points]))
    modes = [mode for mode in modes if len(mode["legend"]) > 1]
    radius = 3.2 if len(points) <= FEW else 2.4
    data = {
        "shapes": [[shape, marker(shape, 0, 0, radius).removeprefix("M0 0")] for shape in SHAPES],
        "rows": [int(row["row"]) for row in points],
        "modes": {mode["key"]: mode.pop("of") for mode in modes},
        "own": _own(records, points, judged),
    }
    return {"modes": modes, "data": htmlsafe_json_dumps(data, separators=(",", ":"), ensure_ascii=False)}


def _mode(key: str, name: str, names: dict[str, str], values: list[str]) -> dict[str, Any]:
    """The colours of one mode, those alone that occur; `of` is the number of each point's colour."""
    number = {value: index for index, value in enumerate(names)}
    legend = [(text, swatch(number[value])) for value, text in names.items() if value in values]
    return {"key": key, "name": name, "legend": legend, "of": [number[value] for value in values]}


def _error(one: Prediction | None) -> str:
    if one is None:
        return ""
    kind = gallery.kind_of(one)
    return kind if kind in ERRORS else "right"


def _own(records: RunRecords, points: Rows, judged: dict[int, Prediction]) -> dict[str, dict[str, Any]]:
    """By row, facts and a small picture of each image that the gallery does not hold."""
    held = set(judged) if gallery.form_of(records) != "none" else set()
    found: dict[str, dict[str, Any]] = {}
    for row in [int(point["row"]) for point in points if int(point["row"]) not in held]:
        sample, one = records.store.samples[row], judged.get(row)
        facts = {
            "file": sample.image,
            "class": sample.defect,
            "aspect": round(aspect_of(sample.width, sample.height), 4),
        }
        if one:
            facts |= {"score": one.score, "called": one.verdict}
        if len(found) < THUMBS:
            facts["picture"] = inline(packed(np.asarray(records.store.images[row]), SIDE, BYTES))
        found[str(row)] = facts
    return found
