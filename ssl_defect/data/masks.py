"""One mask: decoded, checked against its picture, made binary by one stated rule, reduced with no thin defect lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ssl_defect.data.images import Pixels, UnusableError, decode

RULE = (
    "defective above half of white (grey > 127 of 255, brightest channel, transparency laid over black); a file whose "
    "values end at 16 or whose palette is coloured holds class numbers: defective above 0; a cached cell is defective "
    "when any of its pixels is"
)
HALF = 127
MOST_NUMBERS = 16  # a lossless mask whose values end here holds class numbers, as VisA's do, not grey levels
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
    levels, odd = decode(path, lambda image: _levels(image, lossless))
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


def _levels(image: Image.Image, lossless: bool) -> tuple[Pixels, list[str]]:
    values: npt.NDArray[Any]
    image = ImageOps.exif_transpose(image)
    if image.mode == "P" and _coloured(image):
        numbers = np.asarray(image) > 0
        return numbers.astype(np.uint8) * 255, ["mask with a coloured palette: class numbers"]
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
    return (values > scale * (HALF / 255)).astype(np.uint8) * 255, []


def _brightest(image: Image.Image) -> Pixels:
    """Brightest channel over black, so that a mask drawn in red is as good as one in white."""
    pixels = np.asarray(image.convert("RGBA")).astype(np.uint16)
    brightest: Pixels = (pixels[..., :3].max(axis=2) * pixels[..., 3] // 255).astype(np.uint8)
    return brightest


def _coloured(image: Image.Image) -> bool:
    palette = np.array(image.getpalette("RGB") or [], dtype=np.int64).reshape(-1, 3)
    used = palette[[index for _, index in image.getcolors() or [] if isinstance(index, int) and index < len(palette)]]
    return bool(used.size and (used.max(axis=1) != used.min(axis=1)).any())


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
