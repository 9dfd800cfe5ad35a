"""Which detection found which defect, and the average precision of it, as COCO counts (Lin et al. 2014).

Matching is done once for each picture; a bootstrap draw only weights the pictures anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

THRESHOLDS: Array = np.linspace(0.5, 0.95, 10)  # of the overlap
RECALLS: Array = np.linspace(0, 1, 101)
MOST = 100  # detections of a picture and class that count
EVERY_AREA = (0.0, 1e10)  # pixels
CHUNK = 4_000_000  # weights of detections held at once


@dataclass(frozen=True)
class Picture:
    """The detections and the defects of one picture.

    Attributes:
        scores, classes, areas: (n,) of the detections; areas in pixels.
        true_classes, true_areas: (m,) of the defects.
        overlaps: (n, m) intersection over union.
    """

    scores: Array
    classes: Array
    areas: Array
    true_classes: Array
    true_areas: Array
    overlaps: Array


@dataclass(frozen=True)
class Matches:
    """All detections of one class in falling order of their scores, those of equal score in the order of the pictures.

    Attributes:
        pictures: (N,) number of the picture of each.
        hits: bool (T, N): it found a defect at each threshold of the overlap.
        ignored: bool (T, N): it neither counts for nor against, because of its area.
        positives: (P,) defects of each picture to be found.
    """

    pictures: Array
    hits: Array
    ignored: Array
    positives: Array


def box_picture(boxes: Array, scores: Array, classes: Array, true_boxes: Array, true_classes: Array) -> Picture:
    """A picture of boxes (n, 4) and (m, 4), (x1, y1, x2, y2)."""
    found, true = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(true_boxes, np.float64).reshape(-1, 4)
    overlaps = box_overlaps(found, true)
    return Picture(
        np.asarray(scores), np.asarray(classes), _areas(found), np.asarray(true_classes), _areas(true), overlaps
    )


def mask_picture(masks: Array, scores: Array, classes: Array, true_masks: Array, true_classes: Array) -> Picture:
    """A picture of masks bool (n, H, W) and (m, H, W)."""
    found, true = (
        np.asarray(part, np.float64).reshape(len(part), int(np.prod(part.shape[1:]))) for part in (masks, true_masks)
    )
    areas, true_areas = found.sum(axis=1), true.sum(axis=1)
    both = found @ true.T
    overlaps = _share(both, areas[:, None] + true_areas - both)
    return Picture(np.asarray(scores), np.asarray(classes), areas, np.asarray(true_classes), true_areas, overlaps)


def box_overlaps(a: Array, b: Array) -> Array:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4); 0 where both are empty."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    return _share(both, _areas(a)[:, None] + _areas(b) - both)


def match_class(
    pictures: Iterable[Picture], number: int, thresholds: Array = THRESHOLDS, area: tuple[float, float] = EVERY_AREA
) -> Matches:
    """Match the detections of class `number`, each picture by itself.

    Defects of another area than from `area[0]` to `area[1]` pixels are not asked for, and detections that find them, or
    that find nothing and are of another area themselves, are ignored.
    """
    scores, places, hits, ignored, positives = [], [], [], [], []
    for place, picture in enumerate(pictures):
        order = np.flatnonzero(picture.classes == number)
        order = order[np.argsort(-picture.scores[order], kind="stable")][:MOST]
        true = np.flatnonzero(picture.true_classes == number)
        passed = _outside(picture.true_areas[true], area)
        found = _match(picture.overlaps[np.ix_(order, true)], passed, thresholds)
        hit = found >= 0
        skip = np.where(hit, np.append(passed, False)[found], _outside(picture.areas[order], area))
        scores.append(picture.scores[order])
        places.append(np.full(len(order), place))
        hits.append(hit)
        ignored.append(skip)
        positives.append(int((~passed).sum()))
    if not scores:
        nothing = np.zeros((len(thresholds), 0), dtype=bool)
        return Matches(np.zeros(0, dtype=np.int64), nothing, nothing, np.zeros(0, dtype=np.int64))
    falling = np.argsort(-np.concatenate(scores), kind="stable")
    return Matches(
        np.concatenate(places)[falling],
        np.concatenate(hits, axis=1)[:, falling],
        np.concatenate(ignored, axis=1)[:, falling],
        np.array(positives),
    )


def average_precision(matches: Matches, weights: Array) -> Array:
    """Average precision over 101 recalls, (D, T); NaN where there is nothing to be found.

    Args:
        weights: (D, P) how often each picture counts.
    """
    return np.concatenate([_precision(matches, part) for part in _parts(matches, weights)])


def most_recall(matches: Matches, weights: Array) -> Array:
    """Share of the defects that are found at all, (D, T); NaN where there is nothing to be found."""
    right = np.where(matches.hits & ~matches.ignored, 1.0, 0.0)
    counts = np.zeros((len(matches.positives), len(right)))  # (P, T)
    np.add.at(counts, matches.pictures, right.T)
    return _share(weights @ counts, (weights @ matches.positives)[:, None], np.nan)


def _parts(matches: Matches, weights: Array) -> Iterator[Array]:
    step = max(1, CHUNK // max(1, len(matches.pictures)))
    return (weights[start : start + step] for start in range(0, max(1, len(weights)), step))


def _precision(matches: Matches, weights: Array) -> Array:
    drawn = np.asarray(weights, np.float64)[:, matches.pictures]
    positives = np.asarray(weights, np.float64) @ matches.positives
    called = np.cumsum(drawn, axis=1)
    found = np.zeros((len(weights), len(matches.hits)))
    for t, (hits, ignored) in enumerate(zip(matches.hits, matches.ignored, strict=True)):
        at = np.flatnonzero(hits & ~ignored)
        if not len(at):
            continue
        counted = np.cumsum(drawn * ~ignored, axis=1) if ignored.any() else called
        # between two hits precision only falls, so the hits alone decide
        right = np.cumsum(drawn[:, at], axis=1)
        precision = _share(right, counted[:, at])
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, _share(right, positives[:, None]), side="right")
        found[:, t] = (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return np.where(positives[:, None] > 0, found, np.nan)


def _match(overlaps: Array, passed: Array, thresholds: Array) -> Array:
    """Number of the defect that each detection found, -1 for none: (T, n).

    Each detection, best score first, takes the free defect that it overlaps most, the later one of equals; those that
    are not asked for (`passed`) only where no other is left.
    """
    found = np.full((len(thresholds), len(overlaps)), -1)
    needed = np.minimum(thresholds, 1 - 1e-10)
    free = np.ones((len(thresholds), overlaps.shape[1]), dtype=bool)
    groups = [group for group in (np.flatnonzero(~passed), np.flatnonzero(passed)) if len(group)]
    for d, row in enumerate(overlaps):
        if not len(row) or row.max() < needed[0]:
            continue
        for group in groups:
            open_ = np.where(free[:, group], row[group], -1.0)
            best = len(group) - 1 - np.argmax(open_[:, ::-1], axis=1)
            taken = np.flatnonzero((open_[np.arange(len(open_)), best] >= needed) & (found[:, d] < 0))
            found[taken, d] = group[best[taken]]
            free[taken, group[best[taken]]] = False
    return found


def _outside(areas: Array, area: tuple[float, float]) -> Array:
    outside: Array = (areas < area[0]) | (areas > area[1])
    return outside


def _areas(boxes: Array) -> Array:
    areas: Array = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def _share(part: Array, whole: Array, empty: float = 0.0) -> Array:
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    share: Array = np.divide(part, whole, out=np.full(part.shape, empty), where=whole > 0)
    return share
