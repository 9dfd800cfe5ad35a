"""Synthetic defects: they show, their masks tell where, and nothing else of the picture moves."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_defect.data.defects import KINDS, Look, draw_defects, draw_shapes, paint, soften


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def striped(count: int, channels: int, size: int, seed: int = 0) -> Tensor:
    """Pictures of all brightnesses from black to white, each with its own stripes and noise."""
    draw = torch.rand(count, channels, 1, 1, generator=generator(seed))
    waves = torch.sin(torch.arange(size) * (0.2 + torch.rand(count, 1, 1, 1, generator=generator(seed + 1))))
    noise = torch.randn(count, channels, size, size, generator=generator(seed + 2))
    return (draw * 1.4 - 0.2 + 0.1 * waves + 0.03 * noise).clamp(0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@given(size=st.integers(32, 80), count=st.integers(1, 9), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_pictures_stay_pictures_and_masks_are_masks(channels: int, size: int, count: int, seed: int) -> None:
    images = striped(count, channels, size, seed)
    kept = images.clone()
    defective, masks = draw_defects(images, generator(seed))
    assert torch.equal(images, kept)
    assert defective.shape == images.shape
    assert masks.shape == (count, 1, size, size)
    assert bool(((defective >= 0) & (defective <= 1)).all())
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("seed", range(5))
def test_exactly_the_asked_share_is_left_good_and_untouched(seed: int) -> None:
    images = striped(40, 1, 32, seed)
    defective, masks = draw_defects(images, generator(seed), Look(good=0.25))
    good = masks.flatten(1).amax(dim=1) == 0
    assert int(good.sum()) == 10
    assert torch.equal(defective[good], images[good])
    assert bool((defective[~good] != images[~good]).flatten(1).any(dim=1).all())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_not_covered_stays_bit_for_bit(channels: int, seed: int) -> None:
    images = striped(32, channels, 64, seed)
    alpha = soften(draw_shapes(32, 64, generator(seed)), generator(seed)).unsqueeze(1)
    painted = paint(images, images.roll(1, 0), alpha, generator(seed))
    clear = (alpha == 0).expand_as(images)
    assert torch.equal(painted[clear], images[clear])
    assert float(clear.float().mean()) > 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_defect_shows_within_its_mask_and_ends_near_it(channels: int, seed: int) -> None:
    images, look = striped(64, channels, 64, seed), Look(most=1, good=0.0)
    defective, masks = draw_defects(images, generator(seed), look)
    change = (defective - images).abs()
    inside = (change * masks).sum(dim=(1, 2, 3)) / (masks.sum(dim=(1, 2, 3)) * channels)
    assert float(inside.min()) > look.difference[0] / 4
    near = torch.nn.functional.max_pool2d(masks, 33, 1, 16)
    assert float((near == 0).float().mean()) > 0.3
    assert float((change * (near == 0)).max()) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 57, 128])
def test_no_shape_is_empty_and_areas_keep_their_range(kind: str, size: int) -> None:
    look = Look(kinds=(kind,), area=(0.002, 0.1))
    areas = (draw_shapes(150, size, generator(), look) > 0).float().mean(dim=(1, 2))
    assert int((areas * size**2).min()) >= 1
    # beyond the range itself: a blob's outline moves by 0.8 of its radius, pixels are counted whole, shapes are cut off
    most = {"blob": 0.1 * 1.8**2, "crack": 0.9 * 1.2 * 0.03 * 2, "spot": math.sqrt(0.002 * 0.1), "patch": 0.1}[kind]
    assert float(areas.max()) <= most * 1.1 + 4 / size
    assert float(areas.max()) > 4 * float(areas.median()) or kind in {"crack", "spot"}


def test_areas_span_those_of_real_defects() -> None:
    areas = (draw_shapes(800, 96, generator()) > 0).float().mean(dim=(1, 2))
    for real in (0.002, 0.007, 0.045, 0.17):
        assert float((areas < real).float().mean()) > 0.05
        assert float((areas > real).float().mean()) > 0.01


@pytest.mark.parametrize("kind", ["patch", "spot"])
def test_shapes_within_the_picture_have_the_area_they_were_drawn_with(kind: str) -> None:
    inside = draw_shapes(200, 96, generator(), Look(kinds=(kind,), area=(0.02, 0.02))) > 0
    border = inside[:, [0, -1]].flatten(1).any(dim=1) | inside[:, :, [0, -1]].flatten(1).any(dim=1)
    areas = inside[~border].float().mean(dim=(1, 2))
    assert len(areas) > 50
    assert float(areas.mean()) == pytest.approx(0.02, rel=0.01)
    assert float((areas / 0.02 - 1).abs().max()) < 0.15  # a side along the pixels' own gains or loses a row of them


def test_a_patch_s_distance_is_the_one_to_its_nearest_side() -> None:
    shapes = draw_shapes(50, 64, generator(), Look(kinds=("patch",)))
    across = (shapes[:, 1:] - shapes[:, :-1]).square()[:, :, 1:] + (shapes[:, :, 1:] - shapes[:, :, :-1]).square()[
        :, 1:
    ]
    assert float(across.median()) == pytest.approx(1, abs=1e-3)  # slope of a distance


def test_edges_are_half_hard_half_soft_and_half_opaque_on_the_outline() -> None:
    shapes = draw_shapes(400, 64, generator(), Look(kinds=("spot",), area=(0.05, 0.2)))
    alpha = soften(shapes, generator(1))
    assert torch.equal(alpha >= 0.5, shapes >= 0)
    torch.testing.assert_close(alpha.amax(dim=(1, 2)), torch.ones(400))
    partial = ((alpha > 0) & (alpha < 1)).sum(dim=(1, 2)) / (shapes.abs() < 0.5).sum(dim=(1, 2))
    assert 0.4 < float((partial < 1.01).float().mean()) < 0.7
    assert float(partial.max()) > 3


def test_brighter_and_darker_are_both_drawn_and_never_lost_to_saturation() -> None:
    for level in (0.0, 0.5, 1.0):
        images = torch.full((200, 1, 32, 32), level)
        defective, masks = draw_defects(images, generator(), Look(most=1, good=0.0))
        change = ((defective - images) * masks).sum(dim=(1, 2, 3)) / masks.sum(dim=(1, 2, 3))
        if level == 0.5:
            assert 0.25 < float((change > 0).float().mean()) < 0.75
        size = ((defective - images).abs() * masks).sum(dim=(1, 2, 3)) / masks.sum(dim=(1, 2, 3))
        assert float(size.min()) > 0.015


def test_kinds_are_equally_frequent_and_in_random_order() -> None:
    look = Look(kinds=("spot", "crack"), area=(0.2, 0.3))
    spot = draw_shapes(200, 64, generator(), look).amax(dim=(1, 2)) > 4  # a crack is at most 1 pixel thick
    assert int(spot.sum()) == 100
    assert 20 < int(spot[:100].sum()) < 80


def test_defects_are_a_pure_function_of_pictures_and_seed() -> None:
    images = striped(12, 3, 48)
    one, two, other = (draw_defects(images, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[1], other[1])


def test_autocast_does_not_coarsen_the_pictures() -> None:
    images = striped(8, 1, 48)
    expected = draw_defects(images, generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = draw_defects(images, generator())
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
