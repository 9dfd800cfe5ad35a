"""Pixels to small data URIs, heat layers and outlines."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Bytes = npt.NDArray[np.uint8]
SIDE = 192  # pixels; shown pictures are at most so large, which keeps a page of 100 of them near one megabyte
QUALITIES, SMALLEST = (80, 50, 25), 16  # how a picture is made to fit, in this order
CLEAR = 25  # values up to it are wholly transparent in a layer of heat
RAMP = ((0, (255, 236, 140)), (96, (255, 176, 40)), (176, (236, 84, 24)), (255, (158, 12, 44)))


@dataclass(frozen=True)
class Shot:
    """One picture of the page with its layers and its words.

    Attributes:
        uri: the picture as a data URI.
        side: pixels of the square that `outline_*` are drawn in.
        aspect: width / height of the raw picture, kept within [1/3, 3].
        heat: the map as a data URI with transparency; empty where there is none.
        outline_true, outline_found: SVG path data around the drawn and the predicted defect.
        alt: text alternative.
        title, file: class and path, below the picture.
        notes: lines below the picture.
        flag: a remark that stands out, such as a suspected label error.
    """

    uri: str
    side: int
    aspect: float
    alt: str
    heat: str = ""
    outline_true: str = ""
    outline_found: str = ""
    title: str = ""
    file: str = ""
    notes: tuple[str, ...] = ()
    flag: str = ""


def data_uri(pixels: Bytes, side: int = SIDE, quality: int = 82) -> str:
    """WebP data URI of a (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8 picture, at most `side` pixels large."""
    return inline(webp(pixels, side, quality))


def inline(data: bytes) -> str:
    """The bytes of a WebP file as a data URI."""
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")


def webp(pixels: Bytes, side: int, quality: int, method: int = 4) -> bytes:
    """WebP file of a (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8 picture, at most `side` pixels large.

    `method` 0 to 6 is libwebp's effort: 2 takes half the time of 4 for some 7% more bytes.
    """
    array = np.asarray(pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    image = Image.fromarray(array)
    if max(image.size) > side:
        scale = side / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=method)
    return buffer.getvalue()


def packed(pixels: Bytes, side: int, limit: int) -> bytes:
    """`webp` in at most `limit` bytes: first quality is given up, then size, down to 16 pixels."""
    for quality in QUALITIES:
        data = webp(pixels, side, quality, method=2)
        if len(data) <= limit:
            return data
    while len(data) > limit and side > SMALLEST:
        side //= 2
        data = webp(pixels, side, QUALITIES[-1], method=2)
    return data


def heat_uri(values: Bytes, side: int = 96) -> str:
    """A (S, S) uint8 map as a layer: the higher, the redder and the less transparent; empty below 10%."""
    return data_uri(heat(values), side, quality=70)


def heat(values: Bytes) -> Bytes:
    """(S, S, 4): the colours of `heat_uri`."""
    return np.asarray(_LOOKUP[np.asarray(values)])


def centred(values: Bytes, level: float) -> Bytes:
    """A uint8 map stretched so that `level` in (0, 1) comes to lie at half: heat then means the same in every run."""
    share = values / 255.0
    if not 0 < level < 1:
        return values
    low, high = 0.5 * share / level, 0.5 + 0.5 * (share - level) / (1 - level)
    return np.asarray(np.where(share < level, low, high) * 255).round().astype(np.uint8)


def _lookup() -> Bytes:
    level = np.arange(256)
    places = [place for place, _ in RAMP]
    channels = [np.interp(level, places, [colour[band] for _, colour in RAMP]) for band in range(3)]
    alpha = 155 * np.clip((level / 255 - 0.1) / 0.9, 0, 1) ** 0.8  # never so dense that the picture is hidden
    return np.stack([*channels, alpha], axis=1).round().astype(np.uint8)


_LOOKUP = _lookup()


def outline(mask: npt.NDArray[np.bool_], limit: int = 12_000) -> str:
    """SVG path data along the borders of a (S, S) mask, in cells; merged into straight runs.

    A mask so ragged that the data would pass `limit` characters is drawn on a grid twice as coarse.
    """
    step = 1
    cells: npt.NDArray[np.bool_] = np.asarray(mask, dtype=np.bool_)
    data = _borders(cells, step)
    while len(data) > limit and min(cells.shape) > 8:
        height, width = (size - size % 2 for size in cells.shape)
        blocks = cells[:height, :width].reshape(height // 2, 2, width // 2, 2)
        cells = np.asarray(blocks.any(axis=(1, 3)), dtype=np.bool_)
        step *= 2
        data = _borders(cells, step)
    return data


def _borders(cells: npt.NDArray[np.bool_], step: int) -> str:
    padded = np.pad(cells, 1)
    flat = padded[1:, 1:-1] != padded[:-1, 1:-1]  # (S + 1, S): a border above cell (row, column)
    upright = padded[1:-1, 1:] != padded[1:-1, :-1]
    parts = [f"M{start * step} {at * step}h{(end - start) * step}" for at, start, end in _runs(flat)]
    parts += [f"M{at * step} {start * step}v{(end - start) * step}" for at, start, end in _runs(upright.T)]
    return "".join(parts)


def _runs(edges: npt.NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """`(row, start, end)` of every run of True in the rows of `edges`."""
    padded = np.pad(edges, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, ends = np.nonzero(change == -1)
    return [(int(row), int(start), int(end)) for row, start, end in zip(rows, starts, ends, strict=True)]


def aspect_of(width: int, height: int) -> float:
    """Width / height of a raw picture, kept within [1/3, 3]; 1 where it is unknown."""
    return min(max(width / height, 1 / 3), 3.0) if width > 0 and height > 0 else 1.0
