"""One picture: decoded, checked, brought to 8 bits and to the square of the cache.

What becomes of unusual pictures, by rule and never by a picture's own contents, so that brightness stays comparable:
16 bits are scaled by `white` (65535, or 4095 for a 12-bit camera); floats must lie in [0, 1]; palettes are looked up;
transparency is laid over white; CMYK, YCbCr, LAB and HSV become RGB; an EXIF orientation is applied; of several
frames the first is taken. Colour of 16 bits per channel is read by `deep`, as the decoder here keeps the high byte.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ssl_defect.data.deep import is_deep, is_scrambled, scaled, to_eight_bits

Pixels = npt.NDArray[np.uint8]

SMALLEST = 8  # pixels; a side below this is no picture of a part
MOST_PIXELS = 178_956_970  # the decoder's own limit against decompression bombs
GREY_TOLERANCE = 2  # levels that the channels of a grey picture saved as colour may differ by
DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})  # grey of more than 8 bits
GREY_MODES = frozenset({"1", "L", "LA", "La", "F"}) | DEEP
PLAIN = frozenset({"L", "RGB"})
ORIENTATION = 0x0112
FATAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, OverflowError)


class UnusableError(Exception):
    """Why a picture or its mask is set aside."""


def load_picture(path: Path, white: int = 65535) -> tuple[Pixels, list[str]]:
    """Decode a picture whole.

    Returns:
        uint8 (H, W, 1) or (H, W, 3) in [0, 255], and what was unusual about the file, in words.

    Raises:
        UnusableError: corrupt, truncated, too small, too large, or of an unknown kind.
        OSError: the machine is at fault (no space, no file handles, a failing disk), not the picture.
    """
    return decode(path, lambda image: _to_pixels(image, white, path))


def decode(path: Path, convert: Callable[[Image.Image], tuple[Pixels, list[str]]]) -> tuple[Pixels, list[str]]:
    """Open `path`, check what the header says, and convert it; every way to be broken becomes `UnusableError`.

    It is opened as a file, not by its name: by name an uncompressed TIFF is mapped into memory, and one that its
    orientation turns by a quarter comes out scrambled, as its sides are swapped too early.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UnusableError(f"{image.width} x {image.height} pixels are more than can be decoded safely")
            if image.mode not in DEEP and is_scrambled(image):
                raise UnusableError("16-bit colour in separate planes cannot be read; save its channels interleaved")
            turned = getattr(image, "tag_v2", {}).get(ORIENTATION, 1)
            image.load()
            image.info["turned"] = turned not in (0, 1)  # a TIFF is turned, and forgets its tag, while it is loaded
            return convert(image)
    except UnidentifiedImageError as error:
        raise UnusableError("not a picture, or its header is damaged") from error
    except Image.DecompressionBombError as error:
        raise UnusableError("more pixels than can be decoded safely") from error
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno in FATAL:
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise UnusableError(f"corrupt or truncated ({reason})") from error


def _to_pixels(image: Image.Image, white: int, path: Path) -> tuple[Pixels, list[str]]:
    odd = [] if image.mode in PLAIN else [f"mode {image.mode}"]
    if getattr(image, "n_frames", 1) > 1:
        odd.append(f"first of {getattr(image, 'n_frames', 1)} frames")
    if image.mode not in DEEP and is_deep(image, path):
        image, said = to_eight_bits(image, path, white)
        odd += said
    turned = ImageOps.exif_transpose(image)
    if image.info["turned"] or turned.size != image.size or image.getexif().get(ORIENTATION, 1) not in (0, 1):
        odd.append("turned by its EXIF orientation")
    pixels, said = _convert(turned, white)
    if min(pixels.shape[:2]) < SMALLEST:
        height, width = pixels.shape[:2]
        raise UnusableError(f"{width} x {height} pixels; {SMALLEST} on each side are the least")
    return pixels, odd + said


def _convert(image: Image.Image, white: int) -> tuple[Pixels, list[str]]:
    mode = image.mode
    if mode in DEEP:
        return _from_integers(np.asarray(image), white)
    if mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        flat = "L" if mode in ("LA", "La", "L") else "RGB"
        over = image.convert("RGBA")
        base = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return _array(Image.alpha_composite(base, over).convert(flat)), ["transparency laid over white"]
    if mode in ("L", "1"):
        return _array(image.convert("L")), []
    if mode == "F":
        return _from_float(np.asarray(image))
    return _array(image.convert("RGB")), []


def _array(image: Image.Image) -> Pixels:
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _from_integers(values: npt.NDArray[np.int64], white: int) -> tuple[Pixels, list[str]]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UnusableError(f"integer values from {low} to {high}; 0 to 65535 are accepted")
    levels, said = scaled(values, white)
    return levels[..., None], said


def _from_float(values: npt.NDArray[np.float32]) -> tuple[Pixels, list[str]]:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise UnusableError(f"floating-point values from {low:g} to {high:g}; 0 to 1 are accepted")
    return np.rint(values * 255).astype(np.uint8)[..., None], ["floating point scaled by 1"]


def is_grey(pixels: Pixels) -> bool:
    """Whether the channels of (H, W, C) agree up to what JPEG compression makes of a grey picture."""
    if pixels.shape[2] == 1:
        return True
    low, high = pixels.min(axis=2), pixels.max(axis=2)
    return int((high - low).max()) <= GREY_TOLERANCE


def to_grey(pixels: Pixels) -> Pixels:
    """Luma (ITU-R BT.601) of (H, W, C) as (H, W, 1)."""
    if pixels.shape[2] == 1:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)[..., None]


def to_square(pixels: Pixels, size: int) -> Pixels:
    """Stretch (H, W, C) to (S, S, C): area-averaging along a side that shrinks, linear along one that grows."""
    height, width, channels = pixels.shape
    shrunk = cv2.resize(pixels, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA)
    square = cv2.resize(shrunk, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(square, dtype=np.uint8).reshape(size, size, channels)
