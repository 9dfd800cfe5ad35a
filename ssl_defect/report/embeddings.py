"""What the script needs of the embeddings beside the figures: which image a point is, and its other colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps

from ssl_defect.report import before, gallery
from ssl_defect.report.numbers import counted
from ssl_defect.report.pictures import aspect_of, inline, packed
from ssl_defect.report.records import Prediction, RunRecords
from ssl_defect.report.svg import SHAPES, marker, swatch

ERRORS = {"right": "right at the threshold", "miss": "miss", "alarm": "false alarm", "": "not judged"}
SPLITS = {"train": "training", "val": "validation", "test": "test"}
THUMBS, SIDE, BYTES = 500, 64, 1_500  # own pictures, where the gallery has none: how many, pixels, bytes of each
FEW = 600  # as many points are drawn a little larger
LARGE, SMALL, AROUND = 3.2, 2.4, 2.2  # radii of points, and how much larger the ring around a mistake is

Rows = list[dict[str, str]]
Judged = dict[int, Prediction]


def section(records: RunRecords, rows: Rows, classes: list[str]) -> dict[str, Any]:
    """`all`: the maps of the detector's features; `moved`: those over the pretraining; `own`: JSON of their pictures.

    Both have `modes`, what else the points can be coloured by, each with its legend, and `data`, JSON for the script.
    `before` are the figures of the features that fine-tuning started from, by the name of their projection, and
    `change` says what neighbours make of both; empty where there are none.

    Args:
        rows: of embeddings.csv; none where there are no such maps.
        classes: those drawn, in the order in which the figures draw them.
    """
    judged = {one.row: one for one in [*records.predictions, *records.validation]}
    defects = {int(row["row"]): row["defect"] for row in rows}
    samples = {int(row): records.store.samples[int(row)].defect for row in records.snapshots.get("rows", [])}
    drawn, moved = ([row for name in classes for row in of if of[row] == name] for of in (defects, samples))
    return {
        "all": _clouds(records, drawn, judged, LARGE if len(drawn) <= FEW else SMALL),
        "moved": _clouds(records, moved, judged, SMALL),
        "own": _json(_own(records, list(dict.fromkeys([*drawn, *moved])), judged)),
        "images": _images(records, list(defects)),
        "before": before.figures(rows, classes, {row for row, one in judged.items() if not one.correct}),
        "change": before.change(records.metrics),
    }


def _clouds(records: RunRecords, points: list[int], judged: Judged, radius: float) -> dict[str, Any]:
    modes = [_errors(records, points, judged)]
    found = [records.store.samples[row].split for row in points]
    splits = {name: text for name, text in SPLITS.items() if name in found}
    modes.append(_mode("split", splits, found))
    modes = [mode for mode in modes if len(mode["legend"]) > 1]
    data = {
        "shapes": [[shape, _tail(shape, radius)] for shape in SHAPES],
        "ring": _tail("circle", radius + AROUND),
        "rows": points,
        "modes": {mode["key"]: mode.pop("of") for mode in modes},
        "kinds": list(ERRORS),
    }
    return {"modes": modes, "data": _json(data)}


def _tail(shape: str, radius: float) -> str:
    return marker(shape, 0, 0, radius).removeprefix("M0 0")


def _json(data: Any) -> Any:
    return htmlsafe_json_dumps(data, separators=(",", ":"), ensure_ascii=False)


def _images(records: RunRecords, rows: list[int]) -> str:
    """How many of which split, in words."""
    counts = Counter(records.store.samples[row].split for row in rows)
    return " and ".join(counted(counts[split], f"{SPLITS[split]} image") for split in ("test", "val") if counts[split])


def _errors(records: RunRecords, points: list[int], judged: Judged) -> dict[str, Any]:
    """Right or wrong; with a threshold that can be moved all kinds stand in the legend, whether they occur or not."""
    found = [_error(judged.get(row)) for row in points]
    movable = records.metrics["threshold"]["value"] is not None and any(found)
    return _mode("error", ERRORS, found, [kind for kind in ERRORS if kind] if movable else [])


def _mode(key: str, names: dict[str, str], values: list[str], always: Sequence[str] = ()) -> dict[str, Any]:
    """The colours of one mode, those alone that occur, and `always`; `of` is the number of each point's colour."""
    number = {value: index for index, value in enumerate(names)}
    legend = [(text, swatch(number[value])) for value, text in names.items() if value in values or value in always]
    return {"key": key, "legend": legend, "of": [number[value] for value in values]}


def _error(one: Prediction | None) -> str:
    if one is None:
        return ""
    kind = gallery.kind_of(one)
    return kind if kind in ERRORS else "right"


def _own(records: RunRecords, points: list[int], judged: Judged) -> dict[str, dict[str, Any]]:
    """By row, facts and a small picture of each image that the gallery does not hold."""
    held = {one.row for one in records.predictions} if gallery.form_of(records) != "none" else set()
    found: dict[str, dict[str, Any]] = {}
    for row in [row for row in points if row not in held]:
        sample, one = records.store.samples[row], judged.get(row)
        facts = {
            "file": sample.image,
            "class": sample.defect,
            "aspect": round(aspect_of(sample.width, sample.height), 4),
        }
        if one:
            facts |= {"label": one.label, "score": one.score, "called": one.verdict}
        if len(found) < THUMBS:
            facts["picture"] = inline(packed(np.asarray(records.store.images[row]), SIDE, BYTES))
        found[str(row)] = facts
    return found
