"""Pixels, outlines and heat."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ssl_defect.report.pictures import aspect_of, centred, data_uri, heat_uri, outline


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,"))))


def filled(data: str, height: int, width: int) -> np.ndarray:
    """The mask inside an outline, by the even-odd rule along each row; needs the upright borders only."""
    edges = np.zeros((height, width + 1), bool)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", data):
        edges[int(y) : int(y) + int(length), int(x)] ^= True
    return np.logical_xor.accumulate(edges, axis=1)[:, :width]


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()))
def test_an_outline_encloses_exactly_its_mask(mask: np.ndarray) -> None:
    data = outline(mask)
    assert (filled(data, *mask.shape) == mask).all()
    turned = re.sub(r"M(\d+) (\d+)h", r"M\2 \1v", re.sub(r"M\d+ \d+v\d+", "", data))
    assert (filled(turned, *mask.T.shape) == mask.T).all()


def test_outline_of_a_hand_drawn_block() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    assert outline(mask) == "M1 1h3M1 3h3M1 1v2M4 1v2"
    assert outline(np.zeros((4, 4), bool)) == ""


def test_a_ragged_outline_is_coarsened_not_dropped() -> None:
    mask = np.indices((128, 128)).sum(0) % 2 == 0
    assert 0 < len(outline(mask)) <= 12_000


def test_pictures_are_shrunk_and_keep_their_channels() -> None:
    rng = np.random.default_rng(0)
    grey = opened(data_uri(rng.integers(0, 255, (300, 150, 1), dtype=np.uint8), side=100))
    assert grey.size == (50, 100)
    flat = np.broadcast_to(np.array([200, 40, 90], np.uint8), (64, 64, 3))
    colour = np.asarray(opened(data_uri(flat, side=100)).convert("RGB")).reshape(-1, 3)
    assert np.abs(colour.mean(0) - [200, 40, 90]).max() < 6


def test_heat_is_clear_where_low_and_denser_where_high() -> None:
    values = np.repeat(np.array([0, 20, 120, 255], np.uint8), 16)[None].repeat(64, 0)
    alpha = np.asarray(opened(heat_uri(values)).convert("RGBA"))[32, [8, 24, 40, 56], 3].astype(int)
    assert alpha[0] == alpha[1] == 0
    assert 0 < alpha[2] < alpha[3] < 255


@pytest.mark.parametrize(("size", "aspect"), [((200, 100), 2), ((100, 900), 1 / 3), ((0, 0), 1), ((9000, 1), 3)])
def test_aspect_is_kept_within_reason(size: tuple[int, int], aspect: float) -> None:
    assert aspect_of(*size) == pytest.approx(aspect)


@given(hnp.arrays(np.uint8, (4, 4)), st.floats(0.01, 0.99))
def test_heat_passes_its_middle_at_the_threshold(values: np.ndarray, level: float) -> None:
    moved = centred(values, level).astype(int)
    above = values >= level * 255
    assert (moved[above] >= 127).all()
    assert (moved[~above] <= 128).all()
    order = np.argsort(values, axis=None, kind="stable")
    assert (np.diff(moved.ravel()[order]) >= 0).all()
