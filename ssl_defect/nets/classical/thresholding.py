"""Thresholds on grey levels: Otsu's of the whole picture, and a threshold around the local mean.

A threshold alone says yes or no. The map keeps how far a pixel lies beyond it, so that pixels and pictures can be
ranked: 0.5 is at the threshold.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ssl_defect.nets.classical.base import Fitted, Floats, Labelled, MapMethod, Pixels, each, scores_of, to_grey

POLARITIES = ("dark", "bright", "both")  # a number in the file is a place in this tuple
SHARES = (4, 8, 16)  # the local neighbourhood is the picture's side divided by one of these
SEARCHED = 200  # training pictures at most that parameters are chosen on
OUTSIDE = 0.995  # quantile of the good training pixels where the adaptive threshold and the scale lie
PIXELS = 100_000  # at about so many pixels the parameters are compared
SPECK = -1e-6  # deviation of a speck that is too small: just below the threshold


@dataclass(frozen=True)
class Parameters:
    """What is chosen on the training pictures.

    Attributes:
        polarity: which side of the threshold is defective; of `both` the distance from the background counts.
        block: side in pixels of the neighbourhood that makes the background, odd; 0 for none.
        opening: radius in pixels of the opening that removes thin specks; 0 for none.
    """

    polarity: str
    block: int
    opening: int


def background(grey: Floats, block: int, kind: str) -> Floats:
    """(S, S) local mean or Gaussian mean over `block` pixels, as `skimage.filters.threshold_local`; 0 for block 0."""
    from skimage.filters import threshold_local

    if not block:
        return np.zeros_like(grey)
    return np.asarray(threshold_local(grey, block, method=kind), np.float32)


def evidence(grey: Floats, parameters: Parameters, kind: str) -> Floats:
    """(S, S) values of which the high ones are suspicious, from grey levels in [0, 1]."""
    apart = grey - background(grey, parameters.block, kind)
    if parameters.polarity == "both":
        return np.asarray(np.abs(apart if parameters.block else apart - np.median(apart)), np.float32)
    return apart if parameters.polarity == "bright" else -apart


def otsu(values: Floats) -> float:
    """Otsu, A threshold selection method from gray-level histograms, 1979: largest variance between both sides."""
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values))


def clean(beyond: Floats, opening: int, least: int) -> Floats:
    """Deviations (S, S) from the threshold without specks: opened, and no area above 0 of fewer than `least` pixels."""
    if opening:
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * opening + 1, 2 * opening + 1))
        beyond = cv2.morphologyEx(beyond, cv2.MORPH_OPEN, disk, borderType=cv2.BORDER_REPLICATE)
    if least > 1:
        _, parts, stats, _ = cv2.connectedComponentsWithStats((beyond > 0).astype(np.uint8), connectivity=8)
        small = stats[:, cv2.CC_STAT_AREA] < least
        small[0] = False  # what is not above the threshold
        beyond = np.where(small[parts], np.float32(SPECK), beyond)
    return beyond


class Thresholding(MapMethod):
    """Otsu's threshold of each picture, or one threshold around the local mean for all.

    Options:
        polarity: `dark`, `bright`, `both` or `auto`.
        block: side of the neighbourhood in pixels, or None to choose it.
        local_mean: `gaussian` or `mean`.
        opening: radius in pixels, or None to choose it.
        min_area: pixels.
        score_share: share of the pixels that make the score.

    `auto` and None are chosen by AUROC of the labelled training pictures, plus average precision of their pixels
    where there are masks. With one class alone nothing can be compared, and the first of the choices is taken:
    `both`, a neighbourhood of a quarter of the side, no opening.
    """

    adaptive = False

    def __init__(self, fitted: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super().__init__(fitted, options)
        number = {name: int(fitted[name]) for name in ("polarity", "block", "opening")}
        self.parameters = Parameters(POLARITIES[number["polarity"]], number["block"], number["opening"])
        self.offset, self.scale = float(fitted["offset"]), float(fitted["scale"])

    @classmethod
    def fit(cls, data: Labelled, options: Mapping[str, Any]) -> Fitted:
        """The best of a small grid, its offset and the scale of its map."""
        few = _spread(data, SEARCHED)
        grid = cls._grid(options, data.pictures.shape[1])
        if len(np.unique(data.labels)) < 2:
            grid = grid[:1]
        made = [cls._measure(few, parameters, options) for parameters in grid]
        return max(made, key=lambda fitted: quality(few, cls(fitted, options))) if len(made) > 1 else made[0]

    @classmethod
    def _grid(cls, options: Mapping[str, Any], side: int) -> list[Parameters]:
        polarities = ("both", "dark", "bright") if options["polarity"] == "auto" else (options["polarity"],)
        blocks = [_odd(side / share) for share in SHARES] if options["block"] is None else [options["block"]]
        if options["block"] is None and not cls.adaptive:
            blocks = [*blocks, 0]
        openings = (0, 1) if options["opening"] is None else (options["opening"],)
        return [Parameters(*each) for each in itertools.product(polarities, blocks, openings)]

    @classmethod
    def _measure(cls, data: Labelled, parameters: Parameters, options: Mapping[str, Any]) -> Fitted:
        fitted: Fitted = {"polarity": np.int64(POLARITIES.index(parameters.polarity))}
        fitted |= {"block": np.int64(parameters.block), "opening": np.int64(parameters.opening)}
        zero = fitted | {"offset": np.float64(0), "scale": np.float64(1)}
        pictures = data.good if len(data.good) else data.pictures
        raw = cls(zero, {**options, "min_area": 1}).deviations(pictures)
        offset = float(np.quantile(raw, OUTSIDE)) if cls.adaptive else 0.0
        scale = float(np.quantile(np.abs(raw - offset), 0.5))
        return fitted | {"offset": np.float64(offset), "scale": np.float64(max(scale, 1 / 255))}

    def deviations(self, pictures: Pixels) -> Floats:
        """Pictures (B, S, S, C) -> (B, S, S) grey levels beyond the threshold, below 0 where within."""
        return np.stack(each(self._one, to_grey(pictures)))

    def _one(self, grey: Pixels) -> Floats:
        kind = self.options["local_mean"]
        values = evidence(np.asarray(grey / np.float32(255)), self.parameters, kind)
        beyond = np.asarray(values - (self.offset if self.adaptive else otsu(values)), np.float32)
        return clean(beyond, self.parameters.opening, self.options["min_area"])

    def to_map(self, deviations: Floats) -> Floats:
        """(1 + d / (|d| + scale)) / 2: 0.5 at the threshold, and unlike a sigmoid never flat."""
        return np.asarray((1 + deviations / (np.abs(deviations) + self.scale)) / 2, np.float32)


class Adaptive(Thresholding):
    """A threshold around the local mean: so far from it that 0.5% of the good training pixels lie beyond."""

    adaptive = True


def quality(data: Labelled, method: MapMethod) -> float:
    """AUROC of pictures of both classes, plus average precision of their pixels where there are masks."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    maps = method.to_map(method.deviations(data.pictures))
    found = float(roc_auc_score(data.labels, scores_of(maps, method.options["score_share"])))
    if data.masks is None or not data.masks.any():
        return found
    known = (data.labels == 0) | data.masks.any(axis=(1, 2))
    step = int(known.sum()) * maps[0].size // PIXELS | 1  # odd, or it could walk along a few columns alone
    return found + float(average_precision_score(data.masks[known].ravel()[::step], maps[known].ravel()[::step]))


def _spread(data: Labelled, most: int) -> Labelled:
    """At most so many pictures, half of each class where both have enough, evenly chosen."""
    kept = []
    classes = [np.flatnonzero(data.labels == label) for label in (0, 1)]
    for rows, others in (classes, classes[::-1]):
        room = max(most // 2, most - len(others))
        kept.append(rows[:: max(1, -(-len(rows) // room))])
    rows = np.sort(np.concatenate(kept))
    masks = None if data.masks is None else data.masks[rows]
    return Labelled(data.pictures[rows], data.labels[rows], masks, data.groups[rows], data.seed)


def _odd(side: float) -> int:
    return max(3, 2 * round(side / 2) + 1)
