from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_defect.data.images import UnusableError, decode, is_grey, load_picture, to_square

GREY = np.arange(16 * 12, dtype=np.uint8).reshape(12, 16)  # 16 wide, 12 high
COLOUR = np.stack([GREY, GREY[::-1], np.full_like(GREY, 7)], axis=-1)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_plain_grey_and_colour_are_kept_bit_for_bit(tmp_path: Path) -> None:
    grey, odd = load_picture(save(tmp_path / "g.png", Image.fromarray(GREY)))
    np.testing.assert_array_equal(grey, GREY[..., None])
    assert odd == []
    colour, odd = load_picture(save(tmp_path / "c.png", Image.fromarray(COLOUR)))
    np.testing.assert_array_equal(colour, COLOUR)
    assert odd == []


@pytest.mark.parametrize(("white", "factor"), [(65535, 257), (4095, 4095 / 255)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_by_the_range_not_the_contents(
    tmp_path: Path, white: int, factor: float, suffix: str
) -> None:
    raw = np.rint(GREY.astype(float) * factor).astype(np.uint16)
    pixels, odd = load_picture(save(tmp_path / f"x.{suffix}", Image.fromarray(raw)), white)
    np.testing.assert_array_equal(pixels[..., 0], GREY)
    assert f"16 bits scaled by {white}" in odd


def test_a_twelve_bit_picture_read_as_sixteen_bits_is_noted(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", Image.fromarray(GREY.astype(np.uint16) * 16))
    assert any("data.white" in what for what in load_picture(path)[1])


def test_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR).quantize(200)
    expected = np.asarray(image.convert("RGB"))
    pixels, odd = load_picture(save(tmp_path / "p.png", image))
    np.testing.assert_array_equal(pixels, expected)
    assert odd == ["mode P"]


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.dstack([COLOUR, np.full_like(GREY, 255)])
    rgba[:6, :, 3] = 0
    pixels, odd = load_picture(save(tmp_path / "a.png", Image.fromarray(rgba)))
    assert (pixels[:6] == 255).all()
    np.testing.assert_array_equal(pixels[6:], COLOUR[6:])
    assert odd == ["mode RGBA", "transparency laid over white"]


def test_grey_with_alpha_stays_grey(tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    image.putalpha(255)
    pixels, _ = load_picture(save(tmp_path / "la.png", image))
    np.testing.assert_array_equal(pixels, GREY[..., None])


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 12), (0, 255, 255, 0))
    pixels, odd = load_picture(save(tmp_path / "c.tif", image))
    assert pixels.shape == (12, 16, 3)
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert odd == ["mode CMYK"]


def test_one_bit_and_float_pictures(tmp_path: Path) -> None:
    bits, _ = load_picture(save(tmp_path / "b.png", Image.fromarray(GREY > 100)))
    np.testing.assert_array_equal(bits[..., 0], np.where(GREY > 100, 255, 0))
    floats, _ = load_picture(save(tmp_path / "f.tif", Image.fromarray(GREY.astype(np.float32) / 255)))
    np.testing.assert_array_equal(floats[..., 0], GREY)
    with pytest.raises(UnusableError, match="from 0 to 191; 0 to 1 are accepted"):
        load_picture(save(tmp_path / "w.tif", Image.fromarray(GREY.astype(np.float32))))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned 90 degrees clockwise
    pixels, odd = load_picture(save(tmp_path / "e.png", Image.fromarray(GREY), exif=exif))
    np.testing.assert_array_equal(pixels[..., 0], np.rot90(GREY, -1))
    assert odd == ["turned by its EXIF orientation"]


@pytest.mark.parametrize("picture", [GREY, COLOUR, GREY.astype(np.uint16) * 257], ids=["grey", "colour", "16 bits"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_tiff_is_the_same_compressed_or_not(tmp_path: Path, picture: np.ndarray, orientation: int) -> None:
    image = Image.fromarray(picture)
    pixels, odd = load_picture(save(tmp_path / "raw.tif", image, tiffinfo={274: orientation}))
    packed, _ = load_picture(save(tmp_path / "lzw.tif", image, tiffinfo={274: orientation}, compression="tiff_lzw"))
    np.testing.assert_array_equal(pixels, packed)
    if orientation == 6:
        np.testing.assert_array_equal(pixels, np.rot90(COLOUR if picture.ndim == 3 else GREY[..., None], -1))
    assert "turned by its EXIF orientation" in odd


def test_first_frame_of_several(tmp_path: Path) -> None:
    other = Image.fromarray(255 - GREY)
    path = save(tmp_path / "m.tif", Image.fromarray(GREY), save_all=True, append_images=[other])
    pixels, odd = load_picture(path)
    np.testing.assert_array_equal(pixels[..., 0], GREY)
    assert odd == ["first of 2 frames"]


@pytest.mark.parametrize("size", [(1, 1), (7, 50), (50, 7)])
def test_too_small_pictures_are_unusable(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(UnusableError, match=rf"{size[0]} x {size[1]} pixels; 8 on each side"):
        load_picture(save(tmp_path / "s.png", Image.new("L", size)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_unusable(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"t.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UnusableError):
        load_picture(path)


@pytest.mark.filterwarnings("ignore")
def test_corrupt_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    broken = 0
    for suffix in ("png", "jpg", "tif", "bmp"):
        path = save(tmp_path / f"t.{suffix}", Image.fromarray(COLOUR))
        whole = path.read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            for place in generator.integers(0, len(data), 6):
                data[place] = generator.integers(0, 256)
            path.write_bytes(bytes(data))
            try:
                load_picture(path)
            except UnusableError:
                broken += 1
    assert broken > 20


def test_text_named_png_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(UnusableError, match="not a picture"):
        load_picture(tmp_path / "x.png")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = save(tmp_path / "bomb.png", Image.new("1", (20000, 20000)))
    assert path.stat().st_size < 200_000
    with pytest.raises(UnusableError, match="decoded safely"):
        load_picture(path)


def test_errors_of_the_machine_are_passed_on(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", Image.fromarray(GREY))

    def full(_: Image.Image) -> tuple[np.ndarray, list[str]]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        decode(path, full)


def test_square_is_the_area_average() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 36, 1), dtype=np.uint8)
    expected = pixels[..., 0].reshape(12, 2, 12, 3).mean(axis=(1, 3))
    assert np.abs(to_square(pixels, 12)[..., 0] - expected).max() <= 0.5 + 1e-6


def test_square_shrinks_one_side_and_stretches_the_other() -> None:
    ramp = np.tile(np.arange(40, dtype=np.uint8)[:, None, None] * 4, (1, 10, 3))
    square = to_square(ramp, 20)
    assert square.shape == (20, 20, 3)
    np.testing.assert_array_equal(square[:, 0], np.repeat(np.arange(2, 160, 8, dtype=np.uint8)[:, None], 3, axis=1))


def test_grey_saved_as_colour_counts_as_grey() -> None:
    grey = np.repeat(GREY[..., None], 3, axis=2)
    assert is_grey(grey)
    grey[3, 4] = (10, 20, 10)
    assert not is_grey(grey)
