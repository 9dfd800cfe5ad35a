"""What every classical method is to the detector, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ssl_defect.nets.heads import image_score

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Fitted = dict[str, Any]  # arrays and numbers of numpy

GRID = 8  # cells along a side of the pooled map that stands for a picture's features


@dataclass(frozen=True)
class Labelled:
    """Labelled training pictures.

    Attributes:
        pictures: (n, S, S, C).
        labels: (n,) 0 good, 1 defective.
        masks: (n, S, S) of 0 and 1, or None.
        groups: (n,) near-copies share a number.
        seed: of all that is random.
    """

    pictures: Pixels
    labels: NDArray[np.int64]
    masks: NDArray[np.uint8] | None
    groups: NDArray[np.int64]
    seed: int = 0

    @property
    def good(self) -> Pixels:
        """The good pictures."""
        found: Pixels = self.pictures[self.labels == 0]
        return found


class Method:
    """A fitted method: `fitted` is all that it learnt, as arrays, and `options` are the task's settings."""

    def __init__(self, fitted: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self.fitted, self.options = fitted, options

    @classmethod
    def fit(cls, data: Labelled, options: Mapping[str, Any]) -> Fitted:
        """What the method learns from labelled pictures, to be saved.

        Raises:
            UserError: it cannot learn from these.
        """
        raise NotImplementedError

    def predict(self, pictures: Pixels) -> dict[str, Floats]:
        """Pictures (B, S, S, C) -> "score" (B,) in [0, 1] and, for some, "map" (B, S, S) in [0, 1]."""
        raise NotImplementedError

    def features(self, pictures: Pixels) -> Floats:
        """Pictures (B, S, S, C) -> (B, width), what the method sees of them."""
        raise NotImplementedError


class MapMethod(Method):
    """A method that gives a map: `deviations` is what it measures; the score is the mean of the map's top."""

    def deviations(self, pictures: Pixels) -> Floats:
        """Pictures (B, S, S, C) -> (B, S, S), higher is more defective."""
        raise NotImplementedError

    def to_map(self, deviations: Floats) -> Floats:
        """Deviations to [0, 1], strictly rising."""
        raise NotImplementedError

    def predict(self, pictures: Pixels) -> dict[str, Floats]:
        """-> "score" (B,) and "map" (B, S, S)."""
        maps = self.to_map(self.deviations(pictures))
        return {"score": scores_of(maps, self.options["score_share"]), "map": maps}

    def features(self, pictures: Pixels) -> Floats:
        """-> (B, 64): the map, averaged over 8 x 8 cells."""
        maps = self.to_map(self.deviations(pictures))
        small = [cv2.resize(each, (GRID, GRID), interpolation=cv2.INTER_AREA).ravel() for each in maps]
        return np.asarray(small, np.float32)


def scores_of(maps: Floats, share: float) -> Floats:
    """(B,) score of maps (B, S, S), as that of segmentation: the mean of the highest `share` of the pixels."""
    found: Floats = image_score(torch.from_numpy(maps), share).numpy()
    return found


def to_grey(pictures: Pixels) -> Pixels:
    """Luma (ITU-R BT.601) of (B, S, S, C) as (B, S, S)."""
    if pictures.shape[-1] == 1:
        return np.ascontiguousarray(pictures[..., 0])
    return np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])


def each(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """`function` of every item, in order, on as many threads as torch may use."""
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        return list(pool.map(function, items))
