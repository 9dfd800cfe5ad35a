"""Lay one small picture over another: exposure, crop, scale, turn and mirror undone, then compared.

Pictures are brought to a band of detail first: logarithm (exposure becomes an offset), slow trend removed (uneven
light), divided by the local contrast. What all pictures of a set share, such as the bars of a solar cell, is removed
by the leading principal components, so that what is left tells one part from another.

Alignment is the enhanced correlation coefficient of Evangelidis and Psarakis, "Parametric image alignment using
enhanced correlation coefficient maximization", TPAMI 2008 (eq. 9 to 14), with an affine motion: a square-stretched
crop of another shape is an affine map of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE = 64  # pixels of the thumbnails that are compared
TREND = 2.0  # pixels: detail slower than this blur is light, not the part
OFFSET = 8.0  # grey levels added before the logarithm, which keeps noise in the dark small
SHARED = 32  # principal components removed at most
IMAGES_PER_SHARED = 40  # a component needs so many images, or it would be a pair of copies and not the set
SAMPLE = 1500  # images that the components are found on


def detail(image: NDArray[np.uint8], side: int, trend: float) -> Floats:
    """(side, side) detail of one (S, S, C) picture, unit local contrast, mean zero; all zero for a flat picture."""
    gray = image.mean(axis=2) if image.shape[2] > 1 else image[..., 0]
    small = cv2.resize(gray.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    small = np.log(small + OFFSET)
    band = small - cv2.GaussianBlur(small, (0, 0), trend, borderType=cv2.BORDER_REFLECT)
    contrast = cv2.GaussianBlur(band * band, (0, 0), 2 * trend, borderType=cv2.BORDER_REFLECT)
    band /= np.sqrt(contrast + 1e-4)
    return np.asarray(band - band.mean(), dtype=np.float32)


def remove_shared(rows: Floats) -> None:
    """Take the mean and leading principal components of an (N, D) array away, in place; small sets keep all."""
    count = min(SHARED, len(rows) // IMAGES_PER_SHARED)
    if count == 0:
        return
    sample = rows[:: -(-len(rows) // SAMPLE)]
    mean = sample.mean(axis=0)
    centred = sample - mean
    _, vectors = np.linalg.eigh(centred @ centred.T)
    basis = np.linalg.qr(centred.T @ vectors[:, -count:])[0]
    for start in range(0, len(rows), 1024):
        part = rows[start : start + 1024]
        part -= mean
        part -= (part @ basis) @ basis.T


TURNS: list[Callable[[Floats], Floats]] = [
    lambda a, k=k, mirror=mirror: np.ascontiguousarray(np.rot90(a[..., ::-1] if mirror else a, k, (-2, -1)))  # type: ignore[misc]
    for mirror in (False, True)
    for k in range(4)
]  # the eight ways to lay a square down, on the last two axes


@dataclass(frozen=True)
class Window:
    """A crop in shares of the side: corner (x, y), width and height."""

    x: float
    y: float
    width: float
    height: float

    def warp(self, side: int) -> Floats:
        """(2, 3) map from the pixel centres of the crop, stretched to `side`, to those of the whole picture."""
        return np.array(
            [
                [self.width, 0, self.x * side + (self.width - 1) / 2],
                [0, self.height, self.y * side + (self.height - 1) / 2],
            ],
            dtype=np.float32,
        )

    def cut(self, image: Floats, side: int) -> Floats:
        """The crop of a square picture, as (side, side)."""
        n = image.shape[0]
        x, y, width, height = (round(share * n) for share in (self.x, self.y, self.width, self.height))
        part = image[y : y + height, x : x + width]
        return np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA), dtype=np.float32)


def align(template: Floats, other: Floats, start: Floats) -> float:
    """Correlation in [-1, 1] of two (T, T) details after the affine map that lays `other` best over `template`.

    `start` is the (2, 3) map from template to `other` to begin with. The map is found on half the size first, then
    refined. 0 where no map is found, where they overlap by less than `OVERLAP`, or where the map is no crop of a part.
    """
    side = template.shape[0] // 2
    small, small_other = (cv2.resize(a, (side, side), interpolation=cv2.INTER_AREA) for a in (template, other))
    for blur in BLURS:
        try:
            _, warp = cv2.findTransformECC(small, small_other, _rescale(start, 0.5), AFFINE, COARSE, None, blur)
            warp = _rescale(warp, 2)
            if _compare(template, other, warp) >= HOPELESS:
                _, warp = cv2.findTransformECC(template, other, warp, AFFINE, FINE, None, 5)
                return _compare(template, other, warp)
        except cv2.error:  # it did not converge: not the same picture, as far as this blur can tell
            continue
    return 0.0


def _rescale(warp: Floats, factor: float) -> Floats:
    """The same map between pictures `factor` times as large; pixel centres lie at half pixels."""
    scaled = warp.copy()
    border = 0.5 * (1 - warp[:, :2].sum(axis=1))
    scaled[:, 2] = (warp[:, 2] - border) * factor + border
    return scaled


AFFINE = cv2.MOTION_AFFINE
BLURS = (5, 9)  # pixels at half the size: streaks need the sharper, distant starts the softer
COARSE = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-3)
FINE = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 25, 1e-4)
HOPELESS = 0.1  # correlation after the coarse step below which refining is not worth its time
OVERLAP = 0.35  # share of the template that the other picture must cover


def _compare(template: Floats, other: Floats, warp: Floats) -> float:
    size = template.shape[::-1]
    area = abs(float(np.linalg.det(warp[:, :2])))
    if not 0.3 < area < 3.3:
        return 0.0
    moved = cv2.warpAffine(other, warp, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    cover = cv2.warpAffine(np.ones_like(other), warp, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP) > 0
    if cover.mean() < OVERLAP:
        return 0.0
    a, b = template[cover], moved[cover]
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0
