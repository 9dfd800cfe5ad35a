"""Patches, masks, positions and the decoders that fill hidden patches in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.painters import MapPainter, Painter, TokenPainter
from ssl_defect.nets.patches import (
    hidden_count,
    normalise_patches,
    patchify,
    random_order,
    sincos_positions,
    unpatchify,
)


def test_patches_and_pixels_are_in_reading_order() -> None:
    picture = torch.arange(16).view(1, 1, 4, 4)
    assert patchify(picture, 2).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3]))
def test_unpatchify_undoes_patchify(count: int, side: int, patch: int, channels: int) -> None:
    pictures = torch.rand(count, channels, side * patch, side * patch)
    assert torch.equal(unpatchify(patchify(pictures, patch), patch), pictures)


def test_normalised_patches_have_mean_0_and_variance_1_and_can_be_undone() -> None:
    patches = torch.rand(2, 5, 48) * 3 + 7
    normal, mean, deviation = normalise_patches(patches)
    torch.testing.assert_close(normal.mean(dim=2), torch.zeros(2, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal.var(dim=2), torch.ones(2, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal * deviation + mean, patches)


@given(st.integers(2, 400), st.floats(0.01, 0.99))
def test_a_mask_hides_its_share_and_never_all_or_nothing(number: int, ratio: float) -> None:
    hidden = hidden_count(number, ratio)
    assert 1 <= hidden <= number - 1
    assert abs(hidden - number * ratio) <= 1


def test_orders_are_permutations_and_differ_between_pictures() -> None:
    order = random_order(8, 16, torch.Generator().manual_seed(0))
    assert torch.equal(order.sort(dim=1).values, torch.arange(16).expand(8, -1))
    assert len({tuple(row) for row in order.tolist()}) == 8


def test_the_product_of_two_positions_depends_on_their_offset_alone() -> None:
    grid = sincos_positions(6, 32).view(6, 6, 32)
    products = torch.einsum("yxd,uvd->yxuv", grid, grid)
    torch.testing.assert_close(products[1, 2, 3, 3], products[2, 4, 4, 5])
    torch.testing.assert_close(products[0, 0, 0, 0], torch.tensor(16.0))  # sin^2 + cos^2 of 16 frequencies


def painter_of(name: str, channels: int) -> tuple[torch.nn.Module, Painter]:
    torch.manual_seed(0)
    encoder = build_encoder(name, 64).eval()
    if encoder.is_vit:
        return encoder, TokenPainter(encoder, 12, channels, 32, 1)
    return encoder, MapPainter(encoder, 10, channels, 16)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_painter_never_sees_what_is_hidden(name: str, channels: int) -> None:
    encoder, painter = painter_of(name, channels)
    pictures, order = torch.rand(2, channels, 64, 64), random_order(2, 16, torch.Generator().manual_seed(1))
    predicted, hidden = painter(encoder, pictures, order)
    assert predicted.shape == (2, 16, 16 * 16 * channels)
    assert hidden.sum(dim=1).tolist() == [painter.hidden] * 2
    patches = patchify(pictures, 16)
    other = unpatchify(torch.where(hidden.unsqueeze(2), torch.rand_like(patches), patches), 16)
    torch.testing.assert_close(painter(encoder, other, order)[0], predicted)
    seen = unpatchify(torch.where(hidden.unsqueeze(2), patches, torch.rand_like(patches)), 16)
    assert not torch.allclose(painter(encoder, seen, order)[0], predicted)


def test_token_painter_puts_each_patch_in_its_place() -> None:
    """With an identity for a decoder, a visible patch comes out where it was and hidden ones are all alike."""
    encoder, painter = painter_of("test_vit", 1)
    painter.blocks, painter.leave = torch.nn.ModuleList(), torch.nn.Identity()  # type: ignore[assignment]
    painter.positions.zero_()  # type: ignore[operator]
    pictures, order = torch.rand(1, 1, 64, 64), random_order(1, 16, torch.Generator().manual_seed(2))
    placed, hidden = painter(encoder, pictures, order)
    tokens = painter.enter(encoder.visible_tokens(pictures, order[:, :4]))[:, -4:]  # type: ignore[operator]
    torch.testing.assert_close(placed[0, order[0, :4]], tokens[0])
    assert torch.equal(placed[hidden], painter.hidden_token[0].expand(12, -1))  # type: ignore[index]
