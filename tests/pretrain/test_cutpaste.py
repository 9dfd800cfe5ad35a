"""CutPaste: sizes as published, pieces that come from the picture itself, nothing else touched, chance and its loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from striped_parts import SIZE, make_recipe
from torch import Tensor

from ssl_defect.data.store import open_store
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.cutpaste import (
    PIECES,
    CutPaste,
    Options,
    fill,
    offsets,
    paste,
    random_rectangle,
    random_scar,
    recolour,
)
from ssl_defect.pretrain.stage import training_rows

FACTS = Facts(1, 64, SIZE, 16, 10, 4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(**options: Any) -> CutPaste:
    torch.manual_seed(0)
    method = CutPaste.build(build_encoder("test_resnet", SIZE), Options(**options), FACTS)
    assert isinstance(method, CutPaste)
    return method


def numbered(count: int, channels: int, size: int) -> Tensor:
    """Pictures in which every pixel has a value of its own."""
    order = torch.rand(count, channels, size * size, generator=generator()).argsort(dim=2)
    return (order.float() / (size * size)).view(count, channels, size, size)


@given(size=st.integers(32, 256), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_rectangles_have_the_published_sizes_and_lie_within(size: int, seed: int) -> None:
    box = random_rectangle(200, size, generator(seed), (0.02, 0.15))
    sides = box[:, 4:6]
    assert torch.equal(sides, sides.round())
    for middle in (box[:, :2], box[:, 2:4]):
        assert bool((middle - sides / 2 >= 0).all())
        assert bool((middle + sides / 2 <= size).all())
        assert torch.equal(middle - sides / 2, (middle - sides / 2).round())
    off = 1 / sides.min(dim=1).values  # rounding to whole pixels
    share, ratio = sides.prod(dim=1) / size**2, sides[:, 0] / sides[:, 1]
    assert bool(((share >= 0.02 * (1 - off)) & (share <= 0.15 * (1 + off))).all())
    assert bool(((ratio >= (1 - off) / 3.3) & (ratio <= 3.3 * (1 + off))).all())
    assert 0.3 < float((ratio > 1).float().mean()) < 0.7


@given(size=st.integers(32, 256), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_scars_have_the_published_sizes_lie_within_and_cover_a_pixel(size: int, seed: int) -> None:
    box = random_scar(50, size, generator(seed))
    scale = size / 256
    length, width = box[:, 4], box[:, 5]
    assert bool(((length >= max(3, 10 * scale) - 1e-4) & (length <= max(3, 25 * scale) + 1e-4)).all())
    assert bool(((width >= max(1, 2 * scale) - 1e-4) & (width <= max(1, 16 * scale) + 1e-4)).all())
    assert float(box[:, 6].abs().max()) <= math.pi / 4
    covered = offsets(box, size)[2]
    assert bool(covered.flatten(1).any(dim=1).all())
    assert not bool(covered[:, [0, -1]].any()) or size < 40
    assert float((covered.sum(dim=(1, 2)) / (length * width) - 1).mean().abs()) < 0.2


def test_an_upright_piece_is_cut_and_pasted_as_it_was() -> None:
    images = numbered(2, 3, 32)
    box = torch.tensor([[10.0, 20.0, 24.0, 6.0, 8.0, 4.0, 0.0], [5.5, 5.5, 20.5, 25.5, 3.0, 7.0, 0.0]])
    expected = images.clone()
    expected[0, :, 6:14, 18:22] = images[0, :, 20:28, 4:8]
    expected[1, :, 4:7, 2:9] = images[1, :, 19:22, 22:29]
    torch.testing.assert_close(paste(images, box, generator(), 0.0), expected, atol=1e-6, rtol=0)


def test_a_quarter_turn_turns_the_piece() -> None:
    images = numbered(1, 1, 32)
    box = torch.tensor([[16.0, 16.0, 6.0, 6.0, 8.0, 4.0, math.pi / 2]])
    expected = images.clone()
    expected[0, 0, 14:18, 12:20] = images[0, 0, 2:10, 4:8].rot90(-1)
    torch.testing.assert_close(paste(images, box, generator(), 0.0), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("draw", [random_rectangle, random_scar])
@pytest.mark.parametrize("size", [32, 75])
def test_what_is_not_covered_stays_bit_for_bit_and_what_is_changes(channels: int, draw: Any, size: int) -> None:
    images = numbered(40, channels, size)
    box = draw(40, size, generator(), (0.02, 0.15))
    pasted = paste(images, box, generator(), 0.1)
    covered = offsets(box, size)[2].unsqueeze(1).expand_as(images)
    assert torch.equal(pasted[~covered], images[~covered])
    assert float((pasted != images)[covered].float().mean()) > 0.95
    assert bool(((pasted >= 0) & (pasted <= 1)).all())
    filled = fill(images, box, torch.full((40, channels, 1, 1), 0.25))
    assert torch.equal(filled[~covered], images[~covered])
    assert bool((filled[covered] == 0.25).all())


def test_recolouring_by_hand() -> None:
    one, half = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5)
    images = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 1, 2) * torch.tensor([1.0, 0.5])
    everything = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    torch.testing.assert_close(recolour(images, everything, one, one, one), images)
    torch.testing.assert_close(recolour(images, everything, half, one, one), images / 2)
    grey = images.mean(dim=1, keepdim=True)
    torch.testing.assert_close(recolour(images, everything, one, one, half), (images + grey) / 2)
    torch.testing.assert_close(recolour(images, everything, one, half, one), (images + images.mean()) / 2)
    left = torch.tensor([True, False]).view(1, 1, 1, 2)
    torch.testing.assert_close(recolour(images, left, one, half, one), (images + 0.4) / 2)


@pytest.mark.parametrize("variant", PIECES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_variant_s_views_are_the_picture_and_it_with_a_piece(variant: Any, channels: int) -> None:
    method = make(variant=variant, crop=(1.0, 1.0), brightness=0.0, contrast=0.0)
    images = (numbered(8, channels, SIZE) * 255).to(torch.uint8)
    views = method.views({"image": images, "generator": generator()}, 0.0)["views"]
    assert views.shape == (8, 1 + len(PIECES[variant]), channels, SIZE, SIZE)
    torch.testing.assert_close(views[:, 0], images / 255)
    changed = (views[:, 1:] - views[:, :1]).abs().amax(dim=2).flatten(2) > 1e-3
    assert bool(changed.any(dim=2).all())
    assert float(changed.float().mean(dim=2).max()) < 0.2
    again = method.views({"image": images, "generator": generator()}, 0.0)["views"]
    assert torch.equal(views, again)


def test_cutout_is_grey_and_a_random_scar_has_one_colour() -> None:
    images = numbered(8, 3, SIZE)
    for piece in ("cutout", "random_scar"):
        pasted = make().pasted(images, generator(), piece)
        for before, after in zip(images, pasted, strict=True):
            colours = after[:, (before != after).any(dim=0)].T
            assert len(colours) >= 2
            assert torch.equal(colours, colours[:1].expand_as(colours))
            assert piece != "cutout" or bool((colours == 0.5).all())


@pytest.mark.parametrize(("variant", "kinds"), [("normal", 2), ("3way", 3)])
def test_the_loss_is_chance_for_a_head_that_knows_nothing(variant: Any, kinds: int) -> None:
    method = make(variant=variant)
    last = method.head[-1]
    assert isinstance(last, torch.nn.Linear)
    assert last.out_features == kinds
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    logs = method.losses({"views": torch.rand(4, kinds, 1, SIZE, SIZE)}, 0.0)
    assert float(logs["loss"].detach()) == pytest.approx(math.log(kinds), rel=1e-6)
    torch.nn.init.constant_(last.bias[:1], 50.0)
    logs = method.losses({"views": torch.rand(4, kinds, 1, SIZE, SIZE)}, 0.0)
    assert float(logs["accuracy"]) == pytest.approx(1 / kinds)


def test_it_trains_on_good_pictures_alone(prepared: Path) -> None:
    store = open_store(prepared)
    rows = training_rows(make_recipe("cutpaste", "test_resnet"), store, CutPaste)
    assert len(rows) > 0
    assert int(np.sum(store.labels[rows])) == 0


def test_small_pictures_are_refused_in_one_line() -> None:
    small = Facts(1, 64, 16, 16, 10, 4)
    with pytest.raises(UserError, match=r"image_size: cutpaste needs pictures of 32 pixels or more, got 16"):
        CutPaste.build(build_encoder("test_resnet", 32), Options(), small)
