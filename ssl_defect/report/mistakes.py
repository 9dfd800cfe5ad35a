"""The worst mistakes, and some hits beside them, as pictures with heat and outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_defect.report.numbers import listed, share
from ssl_defect.report.pictures import Bytes, Shot, aspect_of, centred, data_uri, heat_uri, outline
from ssl_defect.report.records import DEFECTIVE, Prediction, RunRecords

HITS = 6


def section(records: RunRecords) -> dict[str, Any]:
    """Misses, false alarms and hits with overlays; Grad-CAM of hits and mistakes."""
    misses, alarms = _worst(records)
    limit = records.recipe.report.pictures
    shown_misses, shown_alarms = _fair(misses, alarms, limit)
    positions = {one.row: place for place, one in enumerate(records.predictions)}

    def shots(chosen: Sequence[Prediction]) -> list[Shot]:
        return [_shot(records, one, positions[one.row]) for one in chosen]

    cams = [one for one in records.predictions if one.row in records.gradcam]
    return {
        "misses": shots(shown_misses),
        "alarms": shots(shown_alarms),
        "hits": shots(_hits(records.predictions)) if limit else [],
        "counts": {"misses": len(misses), "alarms": len(alarms)},
        "cam_wrong": [_cam(records, one) for one in cams if not one.correct],
        "cam_right": [_cam(records, one) for one in cams if one.correct],
        "maps": records.maps is not None,
        "masks": records.store.masks is not None,
        "gradcam": bool(cams),
    }


def _worst(records: RunRecords) -> tuple[list[Prediction], list[Prediction]]:
    misses = [one for one in records.predictions if one.label == 1 and one.verdict != DEFECTIVE]
    alarms = [one for one in records.predictions if one.label == 0 and one.verdict == DEFECTIVE]
    return sorted(misses, key=lambda one: (one.score, one.row)), sorted(alarms, key=lambda one: (-one.score, one.row))


def _fair(first: list[Prediction], second: list[Prediction], limit: int) -> tuple[list[Prediction], list[Prediction]]:
    """Half of `limit` each; what one side does not need goes to the other."""
    half = limit - limit // 2
    take = max(half, limit - len(second))
    first = first[:take]
    return first, second[: limit - len(first)]


def _hits(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The surest hit of each defect class, then the next surest, up to six."""
    found = [one for one in predictions if one.label == 1 and one.verdict == DEFECTIVE]
    found.sort(key=lambda one: (-one.score, one.row))
    rank: dict[str, int] = {}
    order = []
    for one in found:
        rank[one.defect] = rank.get(one.defect, -1) + 1
        order.append((rank[one.defect], -one.score, one.row, one))
    return [item[-1] for item in sorted(order, key=lambda item: item[:3])[:HITS]]


def _shot(records: RunRecords, one: Prediction, place: int) -> Shot:
    level = records.metrics["threshold"].get("pixel")
    level = 0.5 if level is None else level
    found, heat = "", ""
    if records.maps is not None:
        values: Bytes = np.asarray(records.maps[place])
        heat, found = heat_uri(centred(values, level)), outline(_called(values, level, one.area_predicted))
    elif one.row in records.gradcam:
        heat = heat_uri(records.gradcam[one.row])
    return _framed(records, one, heat, found)


def _called(values: Bytes, level: float, area: float | None) -> npt.NDArray[np.bool_]:
    """Cells called defective. The map has 8 bits, so of both steps beside `level` the one nearer the recorded area."""
    exact = level * 255
    cuts = [np.asarray(values >= cut, dtype=np.bool_) for cut in (math.ceil(exact), math.floor(exact))]
    return cuts[0] if area is None else min(cuts, key=lambda cells: abs(float(cells.mean()) - area))


def _cam(records: RunRecords, one: Prediction) -> Shot:
    return _framed(records, one, heat_uri(records.gradcam[one.row]), "")


def _framed(records: RunRecords, one: Prediction, heat: str, found: str) -> Shot:
    sample, store = records.store.samples[one.row], records.store
    drawn = outline(np.asarray(store.masks[one.row]) > 0) if store.masks is not None and one.label else ""
    kind = one.defect if one.label else "good"
    return Shot(
        uri=data_uri(store.images[one.row]),
        side=store.images.shape[1],
        aspect=aspect_of(sample.width, sample.height),
        heat=heat,
        outline_true=drawn,
        outline_found=found,
        alt=f"Test image {one.image}: {kind}, called {one.verdict}, score {one.score:.3f}",
        title=kind,
        file=one.image,
        notes=_notes(one),
        flag=_flag(records, one),
    )


def _notes(one: Prediction) -> tuple[str, ...]:
    notes = [f"score {one.score:.3f}, called {one.verdict}"]
    if one.label and one.predicted_class not in {"", "good", DEFECTIVE, one.defect}:
        notes.append(f"class taken for {one.predicted_class}")
    if one.area_true is not None and one.area_predicted is not None:
        notes.append(f"defective area: drawn {share(one.area_true)}, predicted {share(one.area_predicted)}")
    return tuple(notes)


def _flag(records: RunRecords, one: Prediction) -> str:
    for item in (records.audit.get("copies") or {}).get("mixed_labels") or []:
        if one.image in item["images"]:
            return f"label in doubt: its near-copies are labelled {listed(sorted(set(item['defects'])))}"
    return ""
