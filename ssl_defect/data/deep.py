"""Colour of 16 bits per channel, of which the decoder of `images` keeps the high byte: read whole by another one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

HEADER = 25  # bytes of a PNG up to and with its bit depth
COMMENTS = 4096  # bytes of a PPM within which its size and highest value are taken to stand
DEPTH, PLANES, EXTRA, COMPRESSION = 258, 284, 338, 259  # tags of a TIFF
CUT = "16-bit colour: only eight bits were kept, data.white does not apply"


def scaled(values: npt.NDArray[Any], white: int) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Values of any shape in [0, 65535] as 8 bits, 255 from `white` upwards, and what was unusual, in words."""
    high = int(values.max())
    levels = np.minimum(np.rint(values.astype(np.float32) * np.float32(255 / white)), 255).astype(np.uint8)
    said = [f"16 bits scaled by {white}"]
    if high > white:
        said.append(f"brighter than data.white: {high}")
    elif high * 16 <= white:
        said.append(f"brightest value {high}: very dark, see data.white")
    return levels, said


def is_deep(image: Image.Image, path: Path) -> bool:
    """Whether the file that `image` was decoded from holds 16 bits per channel; of PNG, PPM and TIFF only."""
    if image.format == "PPM":
        with path.open("rb") as file:
            kind, *size_and_most = re.sub(rb"#[^\n]*", b"", file.read(COMMENTS)).split(None, 4)[:4]
        return kind in (b"P3", b"P6") and int(size_and_most[-1]) > 255
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(HEADER)[-1] == 16
    return image.format == "TIFF" and 16 in _tag(image, DEPTH)


def is_scrambled(image: Image.Image) -> bool:
    """Whether this is a TIFF whose 16-bit colours lie in planes of their own, uncompressed: taken for bytes."""
    return 16 in _tag(image, DEPTH) and 2 in _tag(image, PLANES) and _tag(image, COMPRESSION) in ((), (1,))


def to_eight_bits(image: Image.Image, path: Path, white: int) -> tuple[Image.Image, list[str]]:
    """The decoded `image` once more, its 16-bit colour scaled by `white`; as it is where that cannot be read."""
    values = _read(image, path)
    if values is None:
        return image, [CUT]
    colour, alpha = values[..., :3], None
    if "transparency" in image.info:  # one colour of 16 bits, which no longer exists once scaled
        alpha = np.where((colour == image.info["transparency"]).all(axis=2), 0, 65535)
    elif "A" in image.getbands() and values.shape[2] == 4:
        alpha = values[..., 3]
    if alpha is not None:
        colour = np.where(alpha[..., None] > 0, colour, 0)  # what nobody sees must not count as the brightest value
    levels, said = scaled(colour, white)
    if alpha is not None:
        levels = np.dstack([levels, np.rint(alpha / 257).astype(np.uint8)])
    shallow = Image.fromarray(levels)
    shallow.info = {key: value for key, value in image.info.items() if key != "transparency"}  # keeps the orientation
    return shallow, said


def _read(image: Image.Image, path: Path) -> npt.NDArray[np.uint16] | None:
    """The values (H, W, 3 or 4), RGB first; None where they cannot be read or are not those of `image`.

    Both decoders turn a TIFF by its orientation and leave a PNG as it lies, so the two agree up to the low byte.
    """
    if image.mode not in ("RGB", "RGBX", "RGBA", "LA") or 2 in _tag(image, PLANES) or 1 in _tag(image, EXTRA):
        return None  # other colours, planes of their own, and colours already multiplied by their transparency
    try:
        found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    known = np.asarray(image.convert("RGB"), dtype=np.int16)
    if found is None or found.dtype != np.uint16 or found.ndim != 3 or found.shape[:2] != known.shape[:2]:
        return None
    values = np.asarray(found[..., [2, 1, 0, 3][: found.shape[2]]], dtype=np.uint16)
    agree = int(np.abs((values[..., :3] >> 8).astype(np.int16) - known).max()) <= 1  # 1: either may round
    return values if agree else None


def _tag(image: Image.Image, number: int) -> tuple[Any, ...]:
    """All values of a tag of a TIFF; none in other files."""
    found = getattr(image, "tag_v2", {}).get(number, ())
    return found if isinstance(found, tuple) else (found,)
