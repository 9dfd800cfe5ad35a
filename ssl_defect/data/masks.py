"""One mask: decoded, checked against its picture, made binary by one stated rule, reduced with no thin defect lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ssl_defect.data.images import Pixels, UnusableError, decode

RULE = (
    "defective above half of white (grey > 127 of 255, brightest channel, transparency laid over black); a file whose "
    "values end at 16, or with a coloured palette that starts with black or is that of Pascal VOC, holds class "
    "numbers: defective above 0; a cached cell is defective when any of its pixels is"
)
HALF = 127
MOST_NUMBERS = 16  # a lossless mask whose values end here holds class numbers, as VisA's do, not grey levels
PATCH = 9  # pixels with neighbours of just their level that make it an area of the mask, not an edge
MOST_TOLD = 5  # levels
# The colours of Pascal VOC's classes, with which many tools write class numbers: the bits of the number, spread out.
VOC = [[((number >> k & 1) << 7) + ((number >> k + 3 & 1) << 6) for k in range(3)] for number in range(21)]
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")


def load_mask(path: Path, size: tuple[int, int], polarity: str = "check") -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Decode a mask and make it binary by `RULE`.

    Args:
        size: (width, height) that it must have, in pixels.
        polarity: `white` or `black` for the defective side; `check` is `white` and refuses what looks inverted.

    Returns:
        bool (H, W), true where defective, and what was unusual, in words.

    Raises:
        UnusableError: corrupt, of another size, or inverted.
        OSError: the machine is at fault, not the mask.
    """
    lossless = path.suffix.lower() in LOSSLESS
    levels, odd = decode(path, lambda image: _levels(image, lossless, polarity))
    height, width = levels.shape
    if (width, height) != size:
        raise UnusableError(f"its mask is {width} x {height} pixels, the picture {size[0]} x {size[1]}")
    mask = levels <= HALF if polarity == "black" else levels > HALF
    if polarity == "check" and looks_inverted(mask):
        raise UnusableError(
            f"its mask looks inverted ({mask.mean():.0%} defective, and the whole border): data.mask_polarity: black "
            "inverts all masks, white takes them as they are"
        )
    return mask, odd


def looks_inverted(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether most of (H, W) and all of its border is defective, but not everything: a hole, not a defect."""
    border = mask[0].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()
    return bool(border and mask.mean() > 0.5 and not mask.all())


def _levels(image: Image.Image, lossless: bool, polarity: str) -> tuple[Pixels, list[str]]:
    values: npt.NDArray[Any]
    image = ImageOps.exif_transpose(image)
    if image.mode == "P" and _coloured(image):
        return _from_palette(image, lossless, polarity)
    if image.mode in ("L", "1", "P"):
        values, scale = np.asarray(image.convert("L")), 255
    elif image.mode.startswith("I"):
        values, scale = np.asarray(image), 65535
    elif image.mode == "F":
        values, scale = np.asarray(image), 1
    else:
        values, scale = _brightest(image), 255
    top = float(values.max())
    if lossless and image.mode not in ("F", "1") and 0 < top <= MOST_NUMBERS:
        return (values > 0).astype(np.uint8) * 255, [f"mask of class numbers up to {top:g}"]
    odd = [] if scale == 1 else _uncounted(np.clip(values // (scale // 255), 0, 255).astype(np.uint8), polarity)
    return (values > scale * (HALF / 255)).astype(np.uint8) * 255, odd


def _from_palette(image: Image.Image, lossless: bool, polarity: str) -> tuple[Pixels, list[str]]:
    """Coloured palettes: class numbers where number 0 is background, else colours, put in any order by their writer."""
    palette = _palette(image)
    of_voc = len(palette) > 1 and palette[1 : len(VOC)].tolist() == VOC[1 : len(palette)]
    if not palette[0].any() or of_voc:
        return (np.asarray(image) > 0).astype(np.uint8) * 255, ["mask with a coloured palette: class numbers"]
    which = f"a coloured palette that starts with {tuple(palette[0].tolist())}, not black"
    levels, odd = _levels(image.convert("RGBA"), lossless, polarity)
    if polarity == "check" and levels.all() and len(image.getcolors() or []) > 1:
        raise UnusableError(
            f"its mask has {which}, and only bright colours, so that nothing tells its background: make that black; "
            "data.mask_polarity: white takes all of it as defective"
        )
    return levels, [f"mask with {which}: taken by its colours", *odd]


def _uncounted(levels: Pixels, polarity: str) -> list[str]:
    """Tell of levels between black and white that fill areas and are left out beside a defect: a class more, perhaps.

    The edges of an anti-aliased mask fill none: nearly all of their pixels have a neighbour of another level.
    """
    levels = 255 - levels if polarity == "black" else levels
    square = np.ones((3, 3), np.uint8)
    inner = cv2.erode(levels, square) == cv2.dilate(levels, square)
    counts = np.bincount(levels[inner], minlength=256)
    left = [level for level in range(MOST_NUMBERS + 1, HALF + 1) if counts[level] >= PATCH]
    if not left or levels.max() <= HALF or counts[: MOST_NUMBERS + 1].sum() < PATCH:
        return []
    said = ", ".join(str(255 - level if polarity == "black" else level) for level in left[:MOST_TOLD])
    more = f" and {len(left) - MOST_TOLD} more" if len(left) > MOST_TOLD else ""
    return [f"mask of more than two levels: areas at {said}{more} of 255 do not count as defective"]


def _brightest(image: Image.Image) -> Pixels:
    """Brightest channel over black, so that a mask drawn in red is as good as one in white."""
    pixels = np.asarray(image.convert("RGBA")).astype(np.uint16)
    brightest: Pixels = (pixels[..., :3].max(axis=2) * pixels[..., 3] // 255).astype(np.uint8)
    return brightest


def _coloured(image: Image.Image) -> bool:
    palette = _palette(image)
    used = palette[[index for _, index in image.getcolors() or [] if isinstance(index, int) and index < len(palette)]]
    return bool(used.size and (used.max(axis=1) != used.min(axis=1)).any())


def _palette(image: Image.Image) -> npt.NDArray[np.int64]:
    """The colours (N, 3) of the numbers from 0."""
    return np.array(image.getpalette("RGB") or [], dtype=np.int64).reshape(-1, 3)


def shrink(mask: npt.NDArray[np.bool_], size: int) -> Pixels:
    """Reduce bool (H, W) to uint8 (S, S) of 0 and 1: a cell is 1 when any pixel that it overlaps is true."""
    return _any_along(_any_along(mask, size).T, size).T.astype(np.uint8)


def _any_along(mask: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """Along the first axis: cell i of S overlaps the pixels from floor(i H / S) up to ceil((i + 1) H / S)."""
    height = len(mask)
    edges = np.arange(size + 1, dtype=np.int64) * height
    low, high = edges[:-1] // size, -(-edges[1:] // size)
    counts = np.zeros((height + 1, mask.shape[1]), dtype=np.int32)
    np.cumsum(mask, axis=0, dtype=np.int32, out=counts[1:])
    return np.asarray(counts[high] > counts[low])
