"""The worst mistakes, and some hits beside them, as pictures with heat and outlines."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_defect.data.records import GOOD
from ssl_defect.report.numbers import listed, share
from ssl_defect.report.pictures import CLEAR, Bytes, Shot, aspect_of, centred, data_uri, heat_uri, outline
from ssl_defect.report.records import DEFECTIVE, Prediction, RunRecords

Cells = npt.NDArray[np.bool_]
Doubts = dict[int, list[str]]
HITS = 6
WITHOUT_LOGITS = {
    "anomaly": "an anomaly detector has no logit to follow back",
    "classical": "a classical detector has no encoder to look into",
}
SURE = 0.9  # a mistake past this share of the other side is sure, so that its label is doubted


def section(records: RunRecords) -> dict[str, Any]:
    """Misses, false alarms and hits with overlays; Grad-CAM of hits and mistakes."""
    misses, alarms = worst(records.predictions)
    limit = records.recipe.report.pictures
    shown_misses, shown_alarms = _fair(misses, alarms, limit)
    positions = {one.row: place for place, one in enumerate(records.predictions)}
    doubted = doubts(records)

    def shots(chosen: Sequence[Prediction]) -> list[Shot]:
        return [_shot(records, one, positions[one.row], doubted) for one in chosen]

    cams = [one for one in records.predictions if one.row in records.gradcam]
    return {
        "misses": shots(shown_misses),
        "alarms": shots(shown_alarms),
        "hits": shots(_hits(records.predictions)) if limit else [],
        "counts": {"misses": len(misses), "alarms": len(alarms)},
        "anchors": [one.row for one in records.predictions if one.row in doubted],
        "cam_wrong": [_explained(records, one, doubted) for one in cams if not one.correct],
        "cam_right": [_explained(records, one, doubted) for one in cams if one.correct],
        "explained": len(cams),
        "relevance": bool(records.relevance),
        "maps": records.maps is not None,
        "masks": records.store.masks is not None,
        "gradcam": bool(cams),
        "heat": "map" if records.maps is not None else "relevance" if records.relevance else "Grad-CAM",
        "unexplained": _why_none(records),
    }


def _why_none(records: RunRecords) -> str:
    """Why no picture is explained, as far as the records tell."""
    if records.recipe.evaluate.gradcam == 0:
        return "it is turned off in the recipe (evaluate.gradcam is 0)"
    task = records.metrics["protocol"]["task"]
    return WITHOUT_LOGITS.get(task, "evaluate left none")


def worst(predictions: Sequence[Prediction]) -> tuple[list[Prediction], list[Prediction]]:
    """Misses and false alarms, each with the worst first."""
    misses = [one for one in predictions if one.label == 1 and one.verdict != DEFECTIVE]
    alarms = [one for one in predictions if one.label == 0 and one.verdict == DEFECTIVE]
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


def _shot(records: RunRecords, one: Prediction, place: int, doubted: Doubts) -> Shot:
    values, cells = heat_of(records, one, place), found_of(records, one, place)
    heat = "" if values is None else heat_uri(values)
    return _framed(records, one, (heat, "" if cells is None else outline(cells)), doubted)


def heat_of(records: RunRecords, one: Prediction, place: int) -> Bytes | None:
    """Values of the layer of heat: the map, or what explains a ViT, or Grad-CAM; None where nothing would show."""
    if records.maps is not None:
        values = centred(np.asarray(records.maps[place]), _level(records))
        return values if values.max() > CLEAR else None
    return records.relevance.get(one.row, records.gradcam.get(one.row))


def found_of(records: RunRecords, one: Prediction, place: int) -> Cells | None:
    """(S, S) cells called defective; None without a map."""
    if records.maps is None:
        return None
    return _called(np.asarray(records.maps[place]), _level(records), one.area_predicted)


def drawn_of(records: RunRecords, one: Prediction) -> Cells | None:
    """(S, S) cells drawn as defective; None without a mask."""
    masks = records.store.masks
    return None if masks is None or not one.label else np.asarray(masks[one.row]) > 0


def _level(records: RunRecords) -> float:
    level = records.metrics["threshold"].get("pixel")
    return 0.5 if level is None else float(level)


def _called(values: Bytes, level: float, area: float | None) -> Cells:
    """Cells called defective. The map has 8 bits, so of both steps beside `level` the one nearer the recorded area."""
    exact = level * 255
    cuts = [np.asarray(values >= cut, dtype=np.bool_) for cut in (math.ceil(exact), math.floor(exact))]
    return cuts[0] if area is None else min(cuts, key=lambda cells: abs(float(cells.mean()) - area))


def _explained(records: RunRecords, one: Prediction, doubted: Doubts) -> dict[str, Any]:
    """The picture with Grad-CAM, and of a ViT the relevance of its patches beside it."""
    cam = heat_uri(records.gradcam[one.row])
    beside = records.relevance.get(one.row)
    layers = [("Grad-CAM", cam)] if beside is None else [("relevance", heat_uri(beside)), ("Grad-CAM", cam)]
    maps = {"relevance": beside, "Grad-CAM": records.gradcam[one.row]}
    empty = [name for name, values in maps.items() if values is not None and not values.any()]
    return {"shot": _framed(records, one, ("", ""), doubted), "layers": layers, "empty": empty}


def _framed(records: RunRecords, one: Prediction, layers: tuple[str, str], doubted: Doubts) -> Shot:
    sample, store = records.store.samples[one.row], records.store
    drawn = drawn_of(records, one)
    return Shot(
        uri=data_uri(store.images[one.row]),
        side=store.images.shape[1],
        aspect=aspect_of(sample.width, sample.height),
        heat=layers[0],
        outline_true="" if drawn is None else outline(drawn),
        outline_found=layers[1],
        alt=alt_of(one),
        title=class_of(one),
        file=one.image,
        notes=(f"score {one.score:.3f}, called {one.verdict}", *notes_of(one)),
        flag="; ".join(doubted.get(one.row, [])),
    )


def class_of(one: Prediction) -> str:
    """The true class, `good` for a good part."""
    return one.defect if one.label else GOOD


def alt_of(one: Prediction) -> str:
    """Text alternative of the picture."""
    return f"Test image {one.image}: {class_of(one)}, called {one.verdict}, score {one.score:.3f}"


def notes_of(one: Prediction) -> list[str]:
    """What there is to say beside score and verdict."""
    notes = []
    if one.label and one.predicted_class not in {"", GOOD, DEFECTIVE, one.defect}:
        notes.append(f"class taken for {one.predicted_class}")
    if one.area_true is not None and one.area_predicted is not None:
        notes.append(f"defective area: drawn {share(one.area_true)}, predicted {share(one.area_predicted)}")
    if one.value_true is not None and one.value_predicted is not None:
        notes.append(f"value: true {one.value_true:.3f}, predicted {one.value_predicted:.3f}")
    return notes


def doubts(records: RunRecords) -> Doubts:
    """Row -> why its label may be wrong; only rows that are doubted.

    Near-copies with different labels are doubted, and a mistake that is sure: a miss that scores below nine in ten good
    test images, a false alarm that scores above nine in ten defective ones.
    """
    found: Doubts = {}
    mixed = {
        image: listed(sorted(set(item["defects"])))
        for item in (records.audit.get("copies") or {}).get("mixed_labels") or []
        for image in item["images"]
    }
    surely = sure(records.predictions)
    for one in records.predictions:
        said = found.setdefault(one.row, [])
        if one.image in mixed:
            said.append(f"label in doubt: its near-copies are labelled {mixed[one.image]}")
        if one.row in surely and (one.verdict == DEFECTIVE) != bool(one.label):
            said.append(surely[one.row])
    return {row: said for row, said in found.items() if said}


def sure(predictions: Sequence[Prediction]) -> dict[int, str]:
    """Row -> why its label is in doubt wherever the threshold makes a mistake of it; the score alone decides."""
    good, bad = (sorted(one.score for one in predictions if one.label == label) for label in (0, 1))
    found = {}
    for one in predictions:
        below, above = len(good) - bisect_right(good, one.score), bisect_left(bad, one.score)
        if one.label and below >= max(1, SURE * len(good)):
            found[one.row] = f"label in doubt: scores below {share(SURE)} of the good images"
        if not one.label and above >= max(1, SURE * len(bad)):
            found[one.row] = f"label in doubt: scores above {share(SURE)} of the defective images"
    return found
