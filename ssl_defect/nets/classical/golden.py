"""The golden picture: the median of the good ones, laid over each picture, and how far the picture departs from it.

Registration looks for the shift of largest normalised cross-correlation (Lewis, Fast normalized cross-correlation,
1995), and for a small turn on top by the enhanced correlation coefficient (Evangelidis and Psarakis, TPAMI 2008). Phase
correlation fails on smooth parts, whose phase is noise at most frequencies. A registration that brings the two no
closer is not used: parts without a common shape stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_defect.errors import UserError
from ssl_defect.nets.classical.base import Fitted, Floats, Labelled, MapMethod, Pixels, each

BLUR = 1.0  # pixels: noise and what a registration leaves of edges
NORMAL = 1.4826  # standard deviation by median absolute deviation, of a normal distribution
BELIEF = 5  # pictures' worth of belief that a pixel spreads as the average pixel does
LEVEL = 1 / 255  # a grey level
OUTSIDE = 0.995  # quantile of the good training pixels at which the map is 0.5
OVERLAP = 0.5  # share of a picture that the golden one must cover
TURN = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
STAY = np.eye(2, 3, dtype=np.float32)
MEDIAN_OF = 200  # good pictures at most that the golden one is the median of


def register(golden: Floats, picture: Floats, how: str, limit: float) -> Floats:
    """(2, 3) map from the pixels of `picture` to those of `golden`, both (S, S).

    Args:
        how: `none`, `shift`, or `rigid` for a shift and a small turn.
        limit: shift at most, as a share of the side, below a half.
    """
    if how == "none":
        return STAY
    shift = _shift(golden, picture, round(limit * len(golden)))
    best = max((STAY, shift), key=lambda warp: correlation(golden, picture, warp))
    if how == "rigid":
        try:
            _, turned = cv2.findTransformECC(picture, golden, best.copy(), cv2.MOTION_EUCLIDEAN, TURN, None, 5)
        except cv2.error:  # it did not converge
            return best
        best = max((best, np.asarray(turned, np.float32)), key=lambda warp: correlation(golden, picture, warp))
    return best


def _shift(golden: Floats, picture: Floats, most: int) -> Floats:
    """The shift by up to `most` pixels at which the middle of the golden picture fits best, with its fraction."""
    if not most:
        return STAY
    fits = cv2.matchTemplate(picture, golden[most:-most, most:-most], cv2.TM_CCOEFF_NORMED)
    y, x = np.unravel_index(int(np.argmax(fits)), fits.shape)
    across, down = _peak(fits[y], int(x)), _peak(fits[:, x], int(y))
    return np.array([[1, 0, most - across], [0, 1, most - down]], np.float32)


def _peak(values: Floats, top: int) -> float:
    """Where the parabola through the highest value and its neighbours is highest."""
    if not 0 < top < len(values) - 1:
        return float(top)
    before, here, after = (float(value) for value in values[top - 1 : top + 2])
    bend = before - 2 * here + after
    return top + (before - after) / (2 * bend) if bend < 0 else float(top)


def lay(golden: Floats, warp: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The golden picture (S, S, ...) laid over the one that `warp` maps into it, and (S, S) where it covers it."""
    side = golden.shape[:2][::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(golden, warp, side, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(np.ones(side[::-1], np.float32), warp, side, flags=flags) > 1 - 1e-3
    return np.asarray(moved, np.float32).reshape(golden.shape), cover


def correlation(golden: Floats, picture: Floats, warp: Floats) -> float:
    """Correlation in [-1, 1] of both (S, S) where the golden one covers the picture.

    0 for a flat one, and where it covers too little: a small patch resembles much.
    """
    moved, cover = lay(golden, warp)
    a, b = moved[cover], picture[cover]
    if len(a) < OVERLAP * cover.size:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 1e-9 else 0.0


def to_levels(pictures: Pixels) -> Floats:
    """Pictures (B, S, S, C) with levels in [0, 1]."""
    return np.asarray(pictures / np.float32(255), np.float32)


def apart(picture: Floats, golden: Floats, cover: NDArray[np.bool_]) -> Floats:
    """Smoothed difference of a picture and a golden one laid over it, both (S, S, C); 0 where that does not reach.

    Each channel's median difference is taken away first, so that exposure does not count.
    """
    rest = (picture - golden - np.median((picture - golden)[cover], axis=0)) * cover[..., None]
    share = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), BLUR)
    smooth = cv2.GaussianBlur(rest, (0, 0), BLUR).reshape(rest.shape)
    return np.asarray(smooth / np.maximum(share, 1e-3)[..., None] * cover[..., None], np.float32)


class Golden(MapMethod):
    """Difference from the golden picture, divided by how much the good pictures spread at that pixel.

    Where the golden picture does not reach, at a shifted border, nothing is known and the map is 0.

    Options:
        registration: `none`, `shift` or `rigid`.
        max_shift: share of the side.
        score_share: share of the pixels that make the score.
    """

    def __init__(self, fitted: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super().__init__(fitted, options)
        self.golden = np.asarray(fitted["golden"], np.float32)
        self.spread = np.asarray(fitted["spread"], np.float32)
        self.level = float(fitted["level"])
        self.flat = np.ascontiguousarray(self.golden.mean(axis=2))

    @classmethod
    def fit(cls, data: Labelled, options: Mapping[str, Any]) -> Fitted:
        """The median of the good pictures, the spread around it, and what is usual among them.

        Raises:
            UserError: there is no good picture.
        """
        good = data.good[:: max(1, -(-len(data.good) // MEDIAN_OF))]
        if not len(good):
            raise UserError(
                f"finetune: method '{options['method']}' needs labelled good training images and there are none; "
                "add some, or take the method otsu or adaptive"
            )
        golden, spread = _median(to_levels(good), options)
        fitted: Fitted = {"golden": golden, "spread": spread, "level": np.float64(1)}
        usual = cls(fitted, options).deviations(good)
        return fitted | {"level": np.float64(max(float(np.quantile(usual, OUTSIDE)), 1e-3))}

    def deviations(self, pictures: Pixels) -> Floats:
        """Pictures (B, S, S, C) -> (B, S, S): standard deviations from the golden picture, of the worst channel."""
        return np.stack(each(self._one, to_levels(pictures)))

    def _one(self, picture: Floats) -> Floats:
        warp = self.registered(picture)
        golden, cover = lay(self.golden, warp)
        spread, _ = lay(self.spread, warp)
        return np.asarray((np.abs(apart(picture, golden, cover)) / spread).max(axis=2), np.float32)

    def registered(self, picture: Floats) -> Floats:
        """(2, 3) map from a picture (S, S, C) to the golden one."""
        grey = np.ascontiguousarray(picture.mean(axis=2))
        return register(self.flat, grey, self.options["registration"], self.options["max_shift"])

    def to_map(self, deviations: Floats) -> Floats:
        """d / (d + level): 0.5 at what 0.5% of the good training pixels exceed."""
        return np.asarray(deviations / (deviations + self.level), np.float32)


def _median(levels: Floats, options: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """Median (S, S, C) of registered pictures (n, S, S, C), and the spread of their differences from it."""
    golden = levels[_typical(levels)]
    for _ in range(2):  # first around a typical picture, then around the median of that
        golden = np.median(_laid_on(golden, levels, options), axis=0).astype(np.float32)
    everywhere = np.ones(golden.shape[:2], np.bool_)
    differences = each(lambda picture: apart(picture, golden, everywhere), _laid_on(golden, levels, options))
    mad = NORMAL * np.median(np.abs(differences), axis=0)
    count = len(levels)
    shrunk = (count * mad**2 + BELIEF * np.mean(mad**2)) / (count + BELIEF)
    return golden, np.sqrt(shrunk + LEVEL**2).astype(np.float32)


def _laid_on(golden: Floats, levels: Floats, options: Mapping[str, Any]) -> Floats:
    """Each picture moved onto the golden one and in its exposure; where it does not reach, the golden one itself."""
    flat = np.ascontiguousarray(golden.mean(axis=2))

    def move(picture: Floats) -> Floats:
        grey = np.ascontiguousarray(picture.mean(axis=2))
        warp = register(flat, grey, options["registration"], options["max_shift"])
        moved, cover = lay(picture, cv2.invertAffineTransform(warp).astype(np.float32))
        moved -= np.median((moved - golden)[cover], axis=0)
        return np.where(cover[..., None], moved, golden)

    return np.stack(each(move, levels))


def _typical(levels: Floats) -> int:
    """Number of the picture that is nearest to the median of all."""
    return int(np.argmin(np.abs(levels - np.median(levels, axis=0)).mean(axis=(1, 2, 3))))
