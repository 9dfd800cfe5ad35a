"""Template matching: each patch of a picture against the patches of the golden picture around the same place."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_defect.nets.classical.base import Floats
from ssl_defect.nets.classical.golden import Golden, lay

NOISE = (2 / 255) ** 2  # variance of a patch that counts as flat


def local_correlation(picture: Floats, other: Floats, side: int) -> Floats:
    """Normalised cross-correlation of the patches around each pixel, (S, S) in [-1, 1].

    cov(p, o) / sqrt(var p * var o) over `side` x `side` pixels (Lewis, Fast normalized cross-correlation, 1995,
    equation 2), with the variance of noise added to all three: two flat patches are alike, and a flat patch is
    unlike a structured one.
    """

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.boxFilter(values, cv2.CV_64F, (side, side), borderType=cv2.BORDER_REFLECT))

    p, o = picture.astype(np.float64), other.astype(np.float64)
    mean_p, mean_o = mean(p), mean(o)
    cov = mean(p * o) - mean_p * mean_o
    var_p, var_o = mean(p * p) - mean_p**2, mean(o * o) - mean_o**2
    norm = np.sqrt((np.maximum(var_p, 0) + NOISE) * (np.maximum(var_o, 0) + NOISE))
    return np.asarray(np.clip((cov + NOISE) / norm, -1, 1), np.float32)


class Template(Golden):
    """1 - the best correlation of each patch with the golden picture, moved by up to `search` pixels.

    Options:
        patch: side of a patch as a share of the picture's.
        search: pixels in each direction; and those of `Golden`.
    """

    def _one(self, picture: Floats) -> Floats:
        golden, cover = lay(self.golden, self.registered(picture))
        side = max(3, 2 * round(self.options["patch"] * len(picture) / 2) + 1)
        grey, flat = np.ascontiguousarray(picture.mean(axis=2)), np.ascontiguousarray(golden.mean(axis=2))
        reach = self.options["search"]
        wide = cv2.copyMakeBorder(flat, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
        best = np.full(grey.shape, -1, np.float32)
        for y in range(2 * reach + 1):
            for x in range(2 * reach + 1):
                moved = wide[y : y + len(grey), x : x + len(grey)]
                best = np.maximum(best, local_correlation(grey, moved, side))
        whole = cv2.erode(cover.astype(np.uint8), np.ones((side, side), np.uint8))  # all of the patch is known
        return np.asarray((1 - best) * whole, np.float32)
