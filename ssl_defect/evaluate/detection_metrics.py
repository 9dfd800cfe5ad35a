"""What detection and instance segmentation are judged by: COCO's measures, of all defects and class by class."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.data.boxes import BoxTable, parts_of, read_boxes
from ssl_defect.evaluate.bootstrap import intervals
from ssl_defect.evaluate.coco import NAMES, coco_family, match_all
from ssl_defect.evaluate.metrics import Array
from ssl_defect.evaluate.results import Results
from ssl_defect.nets.detection.matching import Matches, Picture
from ssl_defect.nets.detection.pictures import picture_of_boxes, picture_of_masks
from ssl_defect.nets.detector import Spec

FOUND = ("boxes", "box_scores", "box_classes", "box_masks")


def measure(results: Results, spec: Spec) -> dict[str, Any] | None:
    """The block "task" of a detector of boxes; None where no test image has a box.

    Boxes lie at the size of the cached picture. Defective images without a box are left out: nothing is known of where
    their defects are. For instances the masks are measured, and the boxes as well.
    """
    masked = spec.task == "instance"
    least = int(spec.options["smallest_part"])
    table = read_boxes(results.store, spec.classes, least, annotated=not masked)
    there = table.counts[results.test] > 0
    if not there.any():
        return None
    known = np.flatnonzero(there | (results.labels == 0)).tolist()
    kinds = {"": [_boxes(results, table, i) for i in known]}
    if masked:
        kinds = {"": [_masks(results, table, least, i) for i in known], "box_": kinds[""]}
    metrics: dict[str, Any] = {}
    classes: dict[str, dict[str, Any]] = {}
    for prefix, pictures in kinds.items():
        matches = match_all(pictures)
        metrics |= _intervals(prefix, matches, known, results)
        for number, one in matches.items() if len(spec.classes) > 2 else ():
            found = _intervals(prefix, {number: one}, known, results)
            classes.setdefault(spec.classes[number], {}).update(found)
    return {
        "title": "Instances of defects" if masked else "Boxes of defects",
        "names": {f"{prefix}{name}": _name(prefix, text, masked) for prefix in kinds for name, text in NAMES.items()},
        "metrics": metrics,
        "classes": classes,
        "note": _note(int(table.counts[results.test].sum()), len(results.test) - len(known)),
    }


def _intervals(prefix: str, matches: dict[int, Matches], known: list[int], results: Results) -> dict[str, Any]:
    found = intervals(coco_family(matches), results.groups[known], results.spec)
    return {f"{prefix}{name}": value for name, value in found.items()}


def _boxes(results: Results, table: BoxTable, place: int) -> Picture:
    row = int(results.test[place])
    return picture_of_boxes(_found(results, place), table.edges[row], table.classes[row])


def _masks(results: Results, table: BoxTable, least: int, place: int) -> Picture:
    row = int(results.test[place])
    assert results.store.masks is not None
    parts = parts_of(results.store.masks[row], least)[0]
    return picture_of_masks(_found(results, place), parts, table.classes[row])


def _found(results: Results, place: int) -> dict[str, Array]:
    others = results.found.others
    return {name: others[name][results.split + place] for name in FOUND if name in others}


def _name(prefix: str, text: str, masked: bool) -> str:
    return f"{'boxes' if prefix else 'masks'}: {text}" if masked else text


def _note(defects: int, left_out: int) -> str:
    rest = f" {left_out} defective images without a known box are left out." if left_out else ""
    return f"As COCO measures, over {defects} defects at the size of the cached pictures.{rest}"
