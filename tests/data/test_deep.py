from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ssl_defect.data.deep import CUT
from ssl_defect.data.images import UnusableError, load_picture

SHADES = np.arange(16 * 12, dtype=np.uint8).reshape(12, 16)  # 16 wide, 12 high
COLOUR = np.stack([SHADES, SHADES[::-1], np.full_like(SHADES, 7)], axis=-1)
HALF = np.where(np.arange(12)[:, None] < 6, 0, 65535).astype(np.uint16).repeat(16, axis=1)  # clear above, opaque below


def as_png(path: Path, values: npt.NDArray[Any], kind: int, *extra: bytes) -> Path:
    """`kind` 0 for grey, 2 for RGB, 4 for grey with alpha, 6 for RGBA; `extra` are chunks after their names."""

    def chunk(content: bytes) -> bytes:
        return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [header, *extra, b"IDAT" + zlib.compress(rows), b"IEND"]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, parts)))
    return path


def as_tiff(path: Path, values: npt.NDArray[Any], **tags: int) -> Path:
    """Uncompressed, of one strip; `tags` are named by their number, as t274."""
    bits = values.dtype.itemsize * 8
    height, width, channels = values.shape
    entries = {256: width, 257: height, 259: 1, 262: 2, 273: 0, 277: channels, 278: height, 279: values.nbytes}
    entries |= {int(name[1:]): value for name, value in tags.items()}
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    entries[273] = start + 2 * channels
    rows = [struct.pack("<HHII", number, 4, 1, value) for number, value in entries.items()]
    rows.append(struct.pack("<HHII", 258, 3, channels, start))
    rows.sort(key=lambda row: struct.unpack("<H", row[:2]))
    head = b"II*\0" + struct.pack("<IH", 8, len(rows)) + b"".join(rows) + struct.pack("<I", 0)
    path.write_bytes(head + struct.pack(f"<{channels}H", *[bits] * channels) + values.tobytes())
    return path


def deep(colour: npt.NDArray[np.uint8], white: int = 65535) -> npt.NDArray[np.uint16]:
    return np.rint(colour.astype(float) * white / 255).astype(np.uint16)


@pytest.mark.parametrize("white", [65535, 4095])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colour_is_scaled_by_the_range_too(tmp_path: Path, white: int, suffix: str) -> None:
    path = tmp_path / f"c.{suffix}"
    assert cv2.imwrite(str(path), deep(COLOUR, white)[..., ::-1])
    pixels, odd = load_picture(path, white)
    np.testing.assert_array_equal(pixels, COLOUR)
    assert odd == [f"16 bits scaled by {white}"]


@pytest.mark.parametrize("comment", ["", "# 8 8 255\n# camera 2\n"])
def test_colour_of_a_portable_pixmap_too(tmp_path: Path, comment: str) -> None:
    path, values = tmp_path / "c.ppm", deep(COLOUR, 4095)
    path.write_bytes(f"P6\n{comment}16 12\n65535\n".encode() + values.astype(">u2").tobytes())
    pixels, odd = load_picture(path, 4095)
    np.testing.assert_array_equal(pixels, COLOUR)
    assert odd == ["16 bits scaled by 4095"]
    path.write_bytes(f"P6\n{comment}16 12\n255\n".encode() + COLOUR.tobytes())
    assert load_picture(path)[1] == []
    np.testing.assert_array_equal(load_picture(path)[0], COLOUR)


def test_a_portable_pixmap_that_names_its_white_is_scaled_by_it(tmp_path: Path) -> None:
    path = tmp_path / "c.ppm"
    path.write_bytes(b"P6 16 12 4095\n" + deep(COLOUR, 4095).astype(">u2").tobytes())
    pixels, odd = load_picture(path)
    assert np.abs(pixels.astype(int) - COLOUR).max() <= 1
    assert odd == [CUT]


def test_what_does_not_fit_the_range_is_told(tmp_path: Path) -> None:
    path = as_png(tmp_path / "c.png", deep(COLOUR, 4095), 2)
    assert load_picture(path)[1][1] == f"brightest value {deep(COLOUR, 4095).max()}: very dark, see data.white"
    assert load_picture(path, 1000)[1][1] == f"brighter than data.white: {deep(COLOUR, 4095).max()}"


@pytest.mark.parametrize("white", [65535, 4095])
def test_transparency_is_laid_over_white(tmp_path: Path, white: int) -> None:
    hidden = np.where(HALF[..., None] == 0, 65535, deep(COLOUR, white)).astype(np.uint16)
    pixels, odd = load_picture(as_png(tmp_path / "a.png", np.dstack([hidden, HALF]), 6), white)
    assert (pixels[:6] == 255).all()
    np.testing.assert_array_equal(pixels[6:], COLOUR[6:])
    assert odd == ["mode RGBA", f"16 bits scaled by {white}", "transparency laid over white"]


def test_grey_with_alpha_and_one_transparent_colour(tmp_path: Path) -> None:
    pixels, _ = load_picture(as_png(tmp_path / "la.png", np.dstack([deep(SHADES, 4095), HALF]), 4), 4095)
    np.testing.assert_array_equal(pixels[6:, :, 0], SHADES[6:])
    assert (pixels[:6] == 255).all()
    values = deep(COLOUR, 4095)
    key = b"tRNS" + struct.pack(">HHH", *values[3, 4].tolist())
    pixels, odd = load_picture(as_png(tmp_path / "t.png", values, 2, key), 4095)
    expected = COLOUR.copy()
    expected[3, 4] = 255
    np.testing.assert_array_equal(pixels, expected)
    assert odd == ["16 bits scaled by 4095", "transparency laid over white"]


def test_grey_stays_whole_where_one_value_is_transparent(tmp_path: Path) -> None:
    path = as_png(tmp_path / "t.png", deep(SHADES, 65535), 0, b"tRNS" + struct.pack(">H", 0))
    pixels, odd = load_picture(path)
    np.testing.assert_array_equal(pixels[..., 0], SHADES)
    assert "16 bits scaled by 65535" in odd


@pytest.mark.parametrize(
    ("extra", "transparent"), [(0, False), (2, True)], ids=["a fourth channel of no meaning", "alpha"]
)
def test_fourth_channel_of_a_tiff(tmp_path: Path, extra: int, transparent: bool) -> None:
    path = as_tiff(tmp_path / "a.tif", np.dstack([deep(COLOUR, 4095), HALF]), t338=extra)
    pixels, odd = load_picture(path, 4095)
    np.testing.assert_array_equal(pixels[6:], COLOUR[6:])
    np.testing.assert_array_equal(pixels[:6], np.full_like(COLOUR[:6], 255) if transparent else COLOUR[:6])
    assert "16 bits scaled by 4095" in odd


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(tmp_path / "plain.png", exif=exif)
    expected, told = load_picture(tmp_path / "plain.png")
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    for path in (
        as_png(tmp_path / "deep.png", deep(COLOUR, 4095), 2, chunk),
        as_tiff(tmp_path / "deep.tif", deep(COLOUR, 4095), t274=orientation),
    ):
        pixels, odd = load_picture(path, 4095)
        np.testing.assert_array_equal(pixels, expected)
        assert odd == ["16 bits scaled by 4095", *told]


def test_what_cannot_be_read_whole_keeps_its_high_byte_and_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    for number, found in enumerate([None, deep(COLOUR), deep(255 - COLOUR), COLOUR]):  # nothing, BGR, another, 8 bits
        monkeypatch.setattr(cv2, "imdecode", lambda *_, found=found: found)
        pixels, odd = load_picture(as_png(tmp_path / f"{number}.png", deep(COLOUR), 2), 4095)
        np.testing.assert_array_equal(pixels, COLOUR)
        assert odd == [CUT]

    def refuse(*_: object) -> None:
        raise cv2.error("no")

    monkeypatch.setattr(cv2, "imdecode", refuse)
    assert load_picture(as_png(tmp_path / "x.png", deep(COLOUR), 2), 4095)[1] == [CUT]


def test_cmyk_and_multiplied_colours_keep_their_high_byte(tmp_path: Path) -> None:
    four = np.dstack([deep(COLOUR), HALF])
    assert load_picture(as_tiff(tmp_path / "k.tif", four, t262=5), 4095)[1] == ["mode CMYK", CUT]
    assert load_picture(as_tiff(tmp_path / "m.tif", four, t338=1), 4095)[1][:2] == ["mode RGBA", CUT]


def test_separate_planes_are_refused_not_scrambled(tmp_path: Path) -> None:
    planes = np.ascontiguousarray(deep(COLOUR).transpose(2, 0, 1)).reshape(COLOUR.shape)
    with pytest.raises(UnusableError, match="separate planes cannot be read"):
        load_picture(as_tiff(tmp_path / "p.tif", planes, t284=2))


def test_eight_bits_are_left_alone(tmp_path: Path) -> None:
    pixels, odd = load_picture(as_tiff(tmp_path / "c.tif", COLOUR), 4095)
    np.testing.assert_array_equal(pixels, COLOUR)
    assert odd == []
