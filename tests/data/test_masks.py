from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssl_defect.data.images import UnusableError
from ssl_defect.data.masks import load_mask, looks_inverted, shrink

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
