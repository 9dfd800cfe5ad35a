"""Every test image with its layers, packed small; sorting, filtering and blending are the script's work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps

from ssl_defect.report import mistakes
from ssl_defect.report.mistakes import Cells
from ssl_defect.report.pictures import aspect_of, heat, inline, outline, packed
from ssl_defect.report.records import DEFECTIVE, Prediction, RunRecords

LIMIT = 1000  # test images; the pictures of more lie beside the page
TOTAL = 5_000_000  # bytes of all pictures in the page; maps take half as many
FOLDER = "pictures"
KINDS = {"miss": "Misses", "alarm": "False alarms", "hit": "Hits", "good": "Good"}


@dataclass(frozen=True)
class Room:
    """What one image may take: sides in pixels and bytes of picture and map, characters of an outline."""

    side: int
    picture: int
    warm: int
    heat: int
    outline: int


def form_of(records: RunRecords) -> str:
    """Where the gallery's pictures lie: in the `page`, in a `folder` beside it, or nowhere (`none`)."""
    wanted, count = records.recipe.report.gallery, len(records.predictions)
    if not count:
        return "none"
    if wanted == "auto":
        return "page" if count <= LIMIT else "folder"
    return wanted


def room_of(form: str, count: int) -> Room:
    """The fewer the images, the more each may take; 1,000 of them stay below 13 megabytes."""
    if form == "folder":
        return Room(side=256, picture=32_000, warm=128, heat=12_000, outline=1_200)
    each = min(16_000, TOTAL // max(1, count))
    side, warm = (256, 128) if each > 10_000 else (128, 64)
    return Room(side=side, picture=each, warm=warm, heat=each // 2, outline=1_200)


def section(records: RunRecords) -> dict[str, Any]:
    """The worst mistakes as they stand without script, and the data of all images for the script."""
    form = form_of(records)
    found = {"still": mistakes.section(records), "form": form, "kinds": [], "classes": [], "data": ""}
    if form == "none":
        return found
    images = _entries(records, form)
    kinds, classes = Counter(one["kind"] for one in images), Counter(one["class"] for one in images)
    names = [name for name in records.store.classes if name in classes]
    data = {
        "side": records.store.images.shape[1],
        "threshold": records.metrics["threshold"]["value"],
        "images": images,
    }
    return found | {
        "kinds": [(kind, name, kinds[kind]) for kind, name in KINDS.items()],
        "classes": [(name, classes[name]) for name in names],
        "doubted": sum(bool(one["doubts"]) for one in images),
        "doubtful": any(one["doubts"] or one["sure"] for one in images),
        "heat": any(one["heat"] for one in images),
        "mask": any(one["mask"] for one in images),
        "contour": any(one["contour"] for one in images),
        "data": htmlsafe_json_dumps(data, separators=(",", ":"), ensure_ascii=False),
    }


def files(records: RunRecords) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every picture that lies beside the page; none where they lie in it."""
    if form_of(records) != "folder":
        return
    room = room_of("folder", len(records.predictions))
    for place, one in enumerate(records.predictions):
        picture, warm = _packed(records, one, place, room)
        yield _name(one, "picture"), picture
        if warm:
            yield _name(one, "heat"), warm


def order(records: RunRecords) -> list[int]:
    """Places in `records.predictions`: misses and false alarms in turn, the worst first; then the rest by error."""
    places = {one.row: place for place, one in enumerate(records.predictions)}
    wrong = [one for one in chain(*zip_longest(*mistakes.worst(records.predictions))) if one is not None]
    seen = {one.row for one in wrong}
    threshold = records.metrics["threshold"]["value"]
    rest = [one for one in records.predictions if one.row not in seen]
    rest.sort(key=lambda one: (-error_of(one, threshold), one.row))
    return [places[one.row] for one in [*wrong, *rest]]


def error_of(one: Prediction, threshold: float | None) -> float:
    """How far the score lies on the wrong side of the threshold, negative on the right side, in [-1, 1].

    Without a threshold: how far it lies from the end of the scale where it should be, in [0, 1].
    """
    if threshold is None:
        return abs(one.label - one.score)
    return threshold - one.score if one.label else one.score - threshold


def kind_of(one: Prediction) -> str:
    """A key of `KINDS`."""
    if one.label:
        return "hit" if one.verdict == DEFECTIVE else "miss"
    return "alarm" if one.verdict == DEFECTIVE else "good"


def _entries(records: RunRecords, form: str) -> list[dict[str, Any]]:
    sizes = Counter(sample.group for sample in records.store.samples)
    doubted, sure = mistakes.doubts(records), mistakes.sure(records.predictions)
    room = room_of(form, len(records.predictions))
    threshold = records.metrics["threshold"]["value"]
    found = []
    for place in order(records):
        one = records.predictions[place]
        facts = {
            "row": one.row,
            "file": one.image,
            "label": one.label,
            "class": mistakes.class_of(one),
            "kind": kind_of(one),
            "called": one.verdict,
            "score": one.score,
            "error": error_of(one, threshold),
            "group": one.group,
            "copies": sizes[one.group] if one.group >= 0 else 1,
            "notes": mistakes.notes_of(one),
            "doubts": doubted.get(one.row, []),
            "sure": sure.get(one.row, ""),  # what is to be doubted of it at a threshold that makes it a mistake
        }
        found.append(facts | _layers(records, one, place, room, form))
    return found


def _layers(records: RunRecords, one: Prediction, place: int, room: Room, form: str) -> dict[str, Any]:
    sample = records.store.samples[one.row]
    if form == "page":
        picture, warm = (inline(data) if data else "" for data in _packed(records, one, place, room))
    else:
        picture = _name(one, "picture")
        warm = "" if mistakes.heat_of(records, one, place) is None else _name(one, "heat")
    return {
        "aspect": round(aspect_of(sample.width, sample.height), 4),
        "picture": picture,
        "heat": warm,
        "mask": _outline(mistakes.drawn_of(records, one), room),
        "contour": _outline(mistakes.found_of(records, one, place), room),
    }


def _packed(records: RunRecords, one: Prediction, place: int, room: Room) -> tuple[bytes, bytes]:
    values = mistakes.heat_of(records, one, place)
    warm = b"" if values is None else packed(heat(values), room.warm, room.heat)
    return packed(np.asarray(records.store.images[one.row]), room.side, room.picture), warm


def _outline(cells: Cells | None, room: Room) -> str:
    return "" if cells is None else outline(cells, room.outline)


def _name(one: Prediction, layer: str) -> str:
    return f"{FOLDER}/{one.row:06d}-{layer}.webp"
