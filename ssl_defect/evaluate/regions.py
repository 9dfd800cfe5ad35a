"""Pixel metrics of whole sets of maps: AUROC, AP, IoU, Dice and AUPRO, with memory that stays flat.

Each image is reduced to its counts at a few thousand levels, so that a metric of any subset, or of any bootstrap
draw, is a weighted sum of rows. Levels are quantiles of the good pixels, of the defective pixels and of the
defective regions, denser at the top; where the maps have few distinct values, every value is a level and the
metrics are exact. Otherwise they agree with the exact ones to well below 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_defect.errors import UserError
from ssl_defect.evaluate.levels import Foreground, Images, choose_levels, foreground
from ssl_defect.evaluate.metrics import Array, Family, auroc, average_precision, divide, from_origin, thin


@dataclass(frozen=True)
class PixelCounts:
    """Counts of n images at B descending levels (float32); the last level takes in every pixel.

    Attributes:
        levels: (B,) map values.
        tied: (B,) True where all pixels from a level up to the next higher one have the same value.
        called: (n, B) pixels at or above each level, good and defective.
        rows: (m,) the images that have defective pixels.
        tp: (m, B) defective pixels at or above each level.
        overlap: (m, B) sum over the image's regions of the share at or above each level.
        regions: (m,) number of 8-connected defective regions.
    """

    levels: Array
    tied: Array
    called: Array
    rows: Array
    tp: Array
    overlap: Array
    regions: Array


def count_pixels(
    maps: Images, masks: Images, threshold: float | None = None, names: list[str] | None = None
) -> PixelCounts:
    """Reduce maps (n, S, S) float and masks (n, S, S) 0/1, both read one image at a time, to counts.

    Args:
        threshold: is made a level of its own, so that IoU and Dice at it are exact.
        names: of the images, for the error line.

    Raises:
        UserError: a map holds NaN or infinity.
    """
    fronts = {}
    for i in range(len(maps)):
        if not np.isfinite(maps[i]).all():
            raise UserError(
                f"{names[i] if names else f'map {i}'}: the map holds NaN or infinity; train the model again"
            )
        if masks[i].any():
            fronts[i] = foreground(np.asarray(maps[i], np.float32), masks[i])
    levels, exact = choose_levels(maps, masks, fronts)
    if threshold is not None:
        levels = np.unique(np.append(levels, np.float32(threshold)))
    return _count(maps, fronts, levels, exact)


def _count(maps: Images, fronts: dict[int, Foreground], rising: Array, exact: bool) -> PixelCounts:
    called = np.empty((len(maps), len(rising)), np.float32)
    tp = np.empty((len(fronts), len(rising)), np.float32)
    overlap = np.empty_like(tp)
    for i in range(len(maps)):
        values = np.sort(np.asarray(maps[i], np.float32), axis=None)
        called[i] = len(values) - np.searchsorted(values, rising)[::-1]
    for i, front in enumerate(fronts.values()):
        below = np.searchsorted(front.values, rising)[::-1]
        tp[i] = len(front.values) - below
        overlap[i] = front.regions - np.append(0.0, np.cumsum(front.share))[below]
    levels = rising[::-1].copy()
    return PixelCounts(
        levels=levels,
        tied=np.append(True, exact | (np.nextafter(levels[1:], np.float32(np.inf)) == levels[:-1]))[: len(levels)],
        called=called,
        rows=np.array(list(fronts), np.int64),
        tp=tp,
        overlap=overlap,
        regions=np.array([front.regions for front in fronts.values()], np.float64),
    )


def totals(counts: PixelCounts) -> tuple[Array, Array]:
    """`tp` and `fp` (B,) over all images, as the curves and the choice of a threshold need them."""
    tp = counts.tp.sum(0, dtype=np.float64)
    return tp, counts.called.sum(0, dtype=np.float64) - tp


def aupro(overlap: Array, fpr: Array, limit: float) -> Array:
    """Area under the per-region overlap up to a false-positive rate of `limit`, divided by `limit`.

    Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.2. The curve is taken as straight
    between neighbouring thresholds and cut exactly at the limit.

    Args:
        overlap: (..., B) mean share of a region at or above each level, in [0, 1].
        fpr: (..., B) share of the good pixels at or above each level, in [0, 1].
    """
    x, y = from_origin(fpr), from_origin(overlap)
    whole = np.diff(x)
    width = np.diff(np.minimum(x, limit))
    part = np.divide(width, whole, out=np.zeros_like(width), where=whole > 0)
    area: Array = np.einsum("...b,...b->...", width, y[..., :-1] + np.diff(y) * part / 2) / limit
    return area


def pro_curve(counts: PixelCounts) -> dict[str, list[Any]] | None:
    """Mean overlap of the regions against the false-positive rate, thinned; None without regions or good pixels."""
    tp, fp = totals(counts)
    if not len(tp) or not len(counts.rows) or fp[-1] <= 0:
        return None
    x, y = from_origin(fp / fp[-1]), from_origin(counts.overlap.sum(0, dtype=np.float64) / counts.regions.sum())
    keep = thin(x, y)
    return {"fpr": np.round(x[keep], 6).tolist(), "pro": np.round(y[keep], 6).tolist()}


def pixel_family(counts: PixelCounts, threshold: float, limit: float) -> Family:
    """Pixel metrics as a function of the images' weights: AUROC, AP, AUPRO, and IoU and Dice at `map >= threshold`.

    IoU and Dice are of all pixels of the set together, not means over images. `threshold` must have been given to
    `count_pixels`.
    """
    at = min(int(np.sum(counts.levels > np.float32(threshold))), len(counts.levels) - 1)
    tp_rows, overlap_rows = counts.tp, counts.overlap

    def family(weights: Array) -> dict[str, Array]:
        if not len(counts.levels):
            return {name: np.full(len(weights), np.nan) for name in ("auroc", "ap", "aupro", "iou", "dice")}
        weights = weights.astype(np.float32)
        bad = weights[:, counts.rows]
        tp = bad @ tp_rows
        fp = weights @ counts.called - tp
        hit, false, true = tp[:, at].astype(np.float64), fp[:, at].astype(np.float64), tp[:, -1].astype(np.float64)
        pro = divide(bad @ overlap_rows, (bad @ counts.regions)[:, None])
        return {
            "auroc": auroc(tp, fp),
            "ap": average_precision(tp, fp, counts.tied),
            "aupro": aupro(pro, divide(fp, fp[:, -1:]), limit),
            "iou": divide(hit, true + false),
            "dice": divide(2 * hit, true + hit + false),
        }

    return family


def take(counts: PixelCounts, images: Array) -> PixelCounts:
    """The counts of some images alone, at the same levels."""
    place = np.full(len(counts.called), -1)
    place[images] = np.arange(len(images))
    kept = place[counts.rows] >= 0
    order = np.argsort(place[counts.rows[kept]])
    pick = np.flatnonzero(kept)[order]
    return PixelCounts(
        counts.levels,
        counts.tied,
        counts.called[images],
        place[counts.rows[pick]],
        counts.tp[pick],
        counts.overlap[pick],
        counts.regions[pick],
    )
