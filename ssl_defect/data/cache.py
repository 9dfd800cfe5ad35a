"""Decode a set once: every picture and mask checked, in threads, streamed to `.npy` files so that memory stays flat."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ssl_defect import console
from ssl_defect.config import DataSettings
from ssl_defect.data.arrays import ArrayWriter, PictureWriter
from ssl_defect.data.images import Pixels, UnusableError, is_grey, load_picture, to_grey, to_square
from ssl_defect.data.masks import load_mask, shrink
from ssl_defect.data.records import Sample
from ssl_defect.data.store import IMAGES, MASKS

THUMBNAILS = "thumbnails.npy"  # grey, of one size whatever the recipe's, so that groups do not depend on it
THUMBNAIL = 128  # pixels
NO_MASK = "defective, but without a mask where others have one; data.empty_masks: keep takes it all the same"
EMPTY_MASK = "defective, but its mask is empty; data.empty_masks: keep takes it all the same"
FULL_MASK = "a good part, but its mask is not empty"


@dataclass(frozen=True)
class Decoded:
    """What became of one sample; `reason` is set, and the pixels are missing, where it is set aside."""

    sample: Sample
    pixels: Pixels | None = None
    thumbnail: Pixels | None = None
    mask: Pixels | None = None
    grey: bool = True
    reason: str = ""
    empty_mask: bool = False
    odd: tuple[str, ...] = ()


@dataclass
class Cached:
    """What decoding found: the usable samples, in the order of the rows, and the rest for the audit."""

    samples: list[Sample] = field(default_factory=list)
    set_aside: list[dict[str, str]] = field(default_factory=list)
    empty_masks: list[str] = field(default_factory=list)
    odd: list[dict[str, str]] = field(default_factory=list)
    channels: int = 1
    masks: bool = False


def cache_images(root: Path, samples: list[Sample], settings: DataSettings, out: Path, threads: int = 0) -> Cached:
    """Decode all samples and write `images.npy` and, if any usable sample has a mask, `masks.npy` into `out`.

    `thumbnails.npy`, uint8 (N, 128, 128, 1), is for finding near-copies and may be removed after that.

    Raises:
        OSError: the disk is full, or the machine is at fault in another way.
    """
    masked = any(sample.mask for sample in samples)
    images = PictureWriter(out / IMAGES, settings.image_size)
    masks = ArrayWriter(out / MASKS, (settings.image_size, settings.image_size))
    thumbnails = ArrayWriter(out / THUMBNAILS, (THUMBNAIL, THUMBNAIL, 1))
    cached = Cached()
    with warnings.catch_warnings(), closing(images), closing(masks), closing(thumbnails):
        warnings.simplefilter("ignore")  # decoders warn of what is checked here anyway
        results = _in_order(samples, lambda sample: decode_sample(root, sample, settings, masked), threads)
        for result in console.track(results, len(samples), "decoding"):
            _note(cached, result)
            if result.pixels is None or result.thumbnail is None:
                continue
            images.append(result.pixels, result.grey)
            thumbnails.append(result.thumbnail)
            if masked:
                masks.append(np.zeros(masks.shape, np.uint8) if result.mask is None else result.mask)
        images.finish()
        thumbnails.finish()
        cached.channels = images.channels
        cached.masks = any(sample.mask for sample in cached.samples)
        if cached.masks:
            masks.finish()
        else:
            masks.discard()
    return cached


def decode_sample(root: Path, sample: Sample, settings: DataSettings, masked: bool) -> Decoded:
    """Decode and check one picture and its mask; whatever is wrong with them becomes a reason."""
    try:
        return _decode(root, sample, settings, masked)
    except UnusableError as error:
        return Decoded(sample, reason=str(error))


def _decode(root: Path, sample: Sample, settings: DataSettings, masked: bool) -> Decoded:
    names = sample.image + sample.mask
    if printable(names) != names or "\r" in names:
        raise UnusableError("its file name is not valid UTF-8, or holds a carriage return; rename it")
    pixels, odd = load_picture(root / sample.image, settings.white)
    height, width = pixels.shape[:2]
    _require_annotated_size(sample, (width, height), odd)
    mask, area = None, 0.0
    if sample.mask:
        raw, said = load_mask(root / sample.mask, (width, height), settings.mask_polarity)
        mask, area, odd = shrink(raw, settings.image_size), float(raw.mean()), odd + said
    reason, empty = _judge(sample, area, masked, settings.empty_masks == "keep")
    found = replace(sample, width=width, height=height, area=round(area, 8))
    if reason:
        return Decoded(found, reason=reason, empty_mask=empty, odd=tuple(odd))
    square = to_square(pixels, settings.image_size)
    thumbnail = to_grey(to_square(pixels, THUMBNAIL))
    return Decoded(found, square, thumbnail, mask, is_grey(square), empty_mask=empty, odd=tuple(odd))


def _require_annotated_size(sample: Sample, size: tuple[int, int], odd: list[str]) -> None:
    """Resized or turned since, a defective picture has its boxes elsewhere; a good one is not what was looked at."""
    if sample.width and (sample.width, sample.height) != size:
        turned = " once turned by its EXIF orientation" if any("EXIF" in what for what in odd) else ""
        raise UnusableError(
            f"its annotation is for {sample.width} x {sample.height} pixels, the picture {size[0]} x {size[1]}{turned}"
            "; annotate the picture as it is"
        )


def _judge(sample: Sample, area: float, masked: bool, keep: bool) -> tuple[str, bool]:
    """Reason to set a decoded sample aside for its mask, or nothing; and whether the mask is wrongly empty."""
    if sample.label == 0:
        return (FULL_MASK if area > 0 else ""), False
    if sample.mask and area == 0:
        return ("" if keep else EMPTY_MASK), True
    return (NO_MASK if masked and not sample.mask and not keep else ""), False


def _note(cached: Cached, result: Decoded) -> None:
    image = printable(result.sample.image)
    if result.pixels is not None:
        cached.samples.append(result.sample)
    if result.reason:
        cached.set_aside.append({"image": image, "reason": result.reason})
    if result.empty_mask:
        cached.empty_masks.append(image)
    if result.odd:
        cached.odd.append({"image": image, "what": "; ".join(result.odd)})


def printable(name: str) -> str:
    """`name` with bytes that are no UTF-8 written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _in_order(samples: list[Sample], work: Callable[[Sample], Decoded], threads: int) -> Iterator[Decoded]:
    """`work` on every sample in threads, results in order; no more than a few wait, so memory stays flat."""
    count = threads or os.cpu_count() or 1
    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for sample in samples:
                waiting.append(pool.submit(work, sample))
                if len(waiting) > 4 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
