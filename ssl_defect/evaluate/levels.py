"""At which map values the pixels of a set are counted: few enough to keep per image, close enough for 1e-4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from ssl_defect.evaluate.metrics import Array


class Images(Protocol):
    """(n, S, S): an array, or anything that gives one image at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Array: ...


LEVELS = 1024
SAMPLE = 500_000
MATRIX = 40_000_000


@dataclass(frozen=True)
class Foreground:
    """The defective pixels of one image, by rising map value: `values` (p,) and `share` (p,) of their region."""

    values: Array
    share: Array
    regions: int


def foreground(scores: Array, mask: Array) -> Foreground:
    """Defective pixels of a map (S, S) under a 0/1 mask (S, S); regions are 8-connected."""
    inside = mask > 0
    number, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)
    ids = labels[inside]
    values = scores[inside]
    order = np.argsort(values)
    share = 1.0 / np.bincount(ids, minlength=number)[ids]
    return Foreground(values[order], share[order], number - 1)


def choose_levels(maps: Images, masks: Images, fronts: dict[int, Foreground]) -> tuple[Array, bool]:
    """Rising levels (B,) float32, and whether they hold every value that occurs."""
    if not len(maps):
        return np.zeros(0, np.float32), True
    size = int(np.clip(MATRIX // (4 * len(maps)), 128, LEVELS))
    few = _few_values(maps, 4 * size)
    if few is not None:
        return few, True
    good = np.sort(_sample_good(maps, masks, fronts))
    ends = [[np.min(maps[i]), np.max(maps[i])] for i in range(len(maps))]
    found: list[Array] = [np.array([np.min(ends), np.max(ends)]), _quantiles(good, size)]
    if fronts:
        values = np.concatenate([front.values for front in fronts.values()])
        order = np.argsort(values)
        share = np.cumsum(np.concatenate([front.share for front in fronts.values()])[order])
        even = np.searchsorted(share, np.linspace(0, share[-1], size, endpoint=False))
        found += [_quantiles(values[order], size), values[order][np.minimum(even, len(values) - 1)]]
    values, times = np.unique(np.concatenate(found).astype(np.float32, copy=False), return_counts=True)
    above = np.nextafter(
        values[times > 1], np.float32(np.inf)
    )  # sets a value that many pixels share apart from the rest
    levels = np.union1d(values, above)
    return levels[levels <= values[-1]], False


def _few_values(maps: Images, most: int) -> Array | None:
    found = np.zeros(0, np.float32)
    for i in range(len(maps)):
        found = np.union1d(found, np.asarray(maps[i], np.float32))
        if len(found) > most:
            return None
    return found


def _sample_good(maps: Images, masks: Images, fronts: dict[int, Foreground]) -> Array:
    step = max(1, len(maps) * np.size(maps[0]) // SAMPLE)
    parts = []
    for i in range(len(maps)):
        values = np.asarray(maps[i], np.float32)
        values = values[masks[i] == 0] if i in fronts else values.ravel()
        parts.append(values[i % step :: step])
    return np.concatenate(parts)


def _quantiles(rising: Array, size: int) -> Array:
    """Values at even ranks and at ranks that grow geometrically from the top: relative steps stay small there too."""
    count = len(rising)
    if not count:
        return rising
    even: Array = np.linspace(0, count - 1, size)
    top = count - np.geomspace(1, count, size // 2)
    return rising[np.concatenate([even, top]).astype(np.int64)]
