from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssl_defect.data.images import UnusableError
from ssl_defect.data.masks import VOC, load_mask, looks_inverted, shrink

SPOT = np.zeros((12, 16), np.bool_)
SPOT[4:7, 5:9] = True
SIZE = (16, 12)


def save(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


def test_above_half_is_defective(tmp_path: Path) -> None:
    levels = np.full((12, 16), 127, np.uint8)
    levels[SPOT] = 128
    mask, odd = load_mask(save(tmp_path / "m.png", Image.fromarray(levels)), SIZE)
    np.testing.assert_array_equal(mask, SPOT)
    assert odd == []


def palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(SPOT.astype(np.uint8)).convert("P")
    image.putdata(SPOT.astype(np.uint8).ravel().tolist())
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(SPOT),
        Image.fromarray(SPOT.astype(np.uint8) * 255),
        Image.fromarray(SPOT.astype(np.uint8)),
        Image.fromarray(SPOT.astype(np.uint8) * 3),
        Image.fromarray(SPOT.astype(np.uint16) * 65535),
        Image.fromarray(np.dstack([SPOT * 255, SPOT * 0, SPOT * 0]).astype(np.uint8)),
        Image.fromarray(np.dstack([SPOT * 0 + 255] * 3 + [SPOT * 255]).astype(np.uint8)),
        palette([0, 0, 0, 128, 0, 0]),
        palette([0, 0, 0, 255, 255, 255]),
    ],
    ids=["1 bit", "0/255", "0/1", "numbers", "16 bits", "red", "alpha", "coloured palette", "grey palette"],
)
def test_the_ways_to_store_a_mask(tmp_path: Path, image: Image.Image) -> None:
    mask, _ = load_mask(save(tmp_path / "m.png", image), SIZE)
    np.testing.assert_array_equal(mask, SPOT)


WHITE, BLACK, RED = [255, 255, 255], [0, 0, 0], [255, 0, 0]


def test_a_quantised_mask_is_read_by_its_colours_not_its_numbers(tmp_path: Path) -> None:
    swapped = palette(RED + BLACK)  # the spot, number 1, is black: the defect is all but the spot
    mask, odd = load_mask(save(tmp_path / "s.png", swapped), SIZE, "white")
    np.testing.assert_array_equal(mask, ~SPOT)
    assert odd == ["mask with a coloured palette that starts with (255, 0, 0), not black: taken by its colours"]
    colours = Image.fromarray(np.where(SPOT[..., None], RED, BLACK).astype(np.uint8))
    direct = np.asarray(load_mask(save(tmp_path / "c.png", colours), SIZE)[0])
    for number, image in enumerate([colours.quantize(2), colours.quantize(2, method=Image.Quantize.FASTOCTREE)]):
        np.testing.assert_array_equal(load_mask(save(tmp_path / f"{number}.png", image), SIZE)[0], direct)


def test_a_red_defect_at_number_zero_that_meets_the_border_is_not_inverted(tmp_path: Path) -> None:
    numbers = np.ones((12, 16), np.uint8)
    numbers[:2] = 0
    image = Image.fromarray(numbers).convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette(RED + BLACK)
    np.testing.assert_array_equal(load_mask(save(tmp_path / "m.png", image), SIZE)[0], numbers == 0)


def test_class_numbers_with_the_colours_of_voc_may_start_with_any_background(tmp_path: Path) -> None:
    mask, odd = load_mask(save(tmp_path / "v.png", palette([*WHITE, 128, 0, 0])), SIZE)
    np.testing.assert_array_equal(mask, SPOT)
    assert odd == ["mask with a coloured palette: class numbers"]
    assert VOC[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert VOC[15:] == [[192, 128, 128], [0, 64, 0], [128, 64, 0], [0, 192, 0], [128, 192, 0], [0, 64, 128]]


def test_a_palette_of_bright_colours_alone_is_refused_unless_polarity_is_given(tmp_path: Path) -> None:
    path = save(tmp_path / "b.png", palette(WHITE + RED))
    with pytest.raises(UnusableError, match=r"starts with \(255, 255, 255\), not black, and only bright colours"):
        load_mask(path, SIZE)
    assert load_mask(path, SIZE, "white")[0].all()


def test_a_transparent_background_of_a_palette_is_black(tmp_path: Path) -> None:
    path = tmp_path / "t.png"
    palette(WHITE + RED).save(path, transparency=0)
    np.testing.assert_array_equal(load_mask(path, SIZE)[0], SPOT)


@pytest.mark.parametrize(("kind", "factor"), [(np.uint8, 1), (np.uint16, 257)])
def test_a_level_that_does_not_count_is_told_where_it_fills_an_area(tmp_path: Path, kind: type, factor: int) -> None:
    levels = np.zeros((40, 40), np.uint8)
    levels[5:15, 5:15] = 255
    levels[20:30, 20:30] = 100
    levels[4, 5:15] = levels[15, 5:15] = 60  # an anti-aliased edge
    path = save(
        tmp_path / "m.png", Image.fromarray(levels * np.asarray(factor, np.uint8 if factor == 1 else np.uint16))
    )
    mask, odd = load_mask(path, (40, 40))
    np.testing.assert_array_equal(mask, levels == 255)
    assert odd == ["mask of more than two levels: areas at 100 of 255 do not count as defective"]
    levels[20:30, 20:30] = 200
    assert load_mask(save(tmp_path / "both.png", Image.fromarray(levels)), (40, 40))[1] == []
    inverted = save(tmp_path / "i.png", Image.fromarray(255 - np.where(levels == 200, 100, levels).astype(np.uint8)))
    assert "areas at 155 of 255" in load_mask(inverted, (40, 40), "black")[1][0]


def test_a_turned_uncompressed_tiff(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    Image.fromarray(np.rot90(SPOT).astype(np.uint8) * 255).save(path, tiffinfo={274: 6})
    np.testing.assert_array_equal(load_mask(path, SIZE)[0], SPOT)


def test_faint_noise_of_a_jpeg_mask_is_no_defect(tmp_path: Path) -> None:
    mask, _ = load_mask(save(tmp_path / "m.jpg", Image.new("L", SIZE, 3)), SIZE)
    assert not mask.any()


def test_another_size_is_unusable(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", Image.new("L", (12, 16)))
    with pytest.raises(UnusableError, match="its mask is 12 x 16 pixels, the picture 16 x 12"):
        load_mask(path, SIZE)


def test_polarity(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", Image.fromarray(~SPOT))
    with pytest.raises(UnusableError, match=r"looks inverted .*mask_polarity"):
        load_mask(path, SIZE)
    np.testing.assert_array_equal(load_mask(path, SIZE, "black")[0], SPOT)
    np.testing.assert_array_equal(load_mask(path, SIZE, "white")[0], ~SPOT)


def test_large_defects_do_not_look_inverted() -> None:
    assert not looks_inverted(np.ones((9, 9), np.bool_))
    half = np.zeros((9, 9), np.bool_)
    half[:6] = True
    assert not looks_inverted(half)
    small_hole = np.ones((9, 9), np.bool_)
    small_hole[4, 4] = False
    assert looks_inverted(small_hole)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(0, 10**6))
def test_a_cell_is_defective_when_any_of_it_is(height: int, width: int, size: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.08
    expected = np.zeros((size, size), np.uint8)
    for y, x in np.argwhere(mask):
        for i in range(size):
            for j in range(size):
                rows = i * height < (y + 1) * size and (i + 1) * height > y * size
                columns = j * width < (x + 1) * size and (j + 1) * width > x * size
                expected[i, j] |= rows and columns
    np.testing.assert_array_equal(shrink(mask, size), expected)
