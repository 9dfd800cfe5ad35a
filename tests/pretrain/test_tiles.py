"""Pieces of pictures: where they are cut, and what is cleared from them."""

from __future__ import annotations

import pytest
import torch

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.tiles import as_pictures, cut, piece_size, standardise


def test_pieces_are_slices_of_their_pictures() -> None:
    images = torch.rand(3, 2, 20, 20)
    generator = torch.Generator().manual_seed(0)
    top, left = torch.randint(0, 14, (2, 3, 5), generator=generator)
    pieces = cut(images, top, left, 6)
    assert pieces.shape == (3, 5, 2, 6, 6)
    for b in range(3):
        for n in range(5):
            y, x = int(top[b, n]), int(left[b, n])
            assert torch.equal(pieces[b, n], images[b, :, y : y + 6, x : x + 6])


def test_the_mean_and_contrast_of_a_piece_are_gone() -> None:
    pieces = torch.rand(2, 4, 3, 8, 8, dtype=torch.float64)
    plain = standardise(pieces, least=0)
    torch.testing.assert_close(plain.mean(dim=(3, 4)), torch.zeros(2, 4, 3, dtype=torch.float64))
    torch.testing.assert_close(plain.std(dim=(3, 4), correction=0), torch.ones(2, 4, 3, dtype=torch.float64))
    torch.testing.assert_close(standardise(0.3 * pieces + 0.2, least=0), plain)


def test_the_noise_of_an_even_piece_stays_small() -> None:
    noise = 0.5 + 0.002 * torch.randn(1, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert float(standardise(noise).std()) == pytest.approx(0.1, abs=0.02)


def test_enlarged_pieces_keep_their_values_and_order() -> None:
    values = torch.arange(6.0).view(2, 3, 1, 1, 1).expand(2, 3, 1, 5, 5)
    pictures = as_pictures(values, 9)
    assert pictures.shape == (2, 3, 1, 9, 9)
    torch.testing.assert_close(pictures[..., 4, 4].flatten(), torch.arange(6.0) * 0.2 + 0.5)


@pytest.mark.parametrize(
    ("backbone", "side", "size"),
    [
        ("test_resnet", 10, 32),  # the stride of its last map, else nothing is left of the tile there
        ("test_resnet", 41, 41),
        ("test_vit", 10, 16),  # patches of 16 pixels
        ("test_vit", 16, 16),
        ("test_vit", 33, 48),
        ("test_convnext", 9, 32),
    ],
)
def test_pieces_are_enlarged_to_what_the_backbone_takes(backbone: str, side: int, size: int) -> None:
    encoder = build_encoder(backbone, 64)
    assert piece_size(encoder, side, "jigsaw") == size
    assert encoder.accepts(size)


def test_a_backbone_of_one_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"jigsaw does not fit swin_.*; it fits backbones that take .*ResNet.*ViTs"):
        piece_size(build_encoder("swin_tiny_patch4_window7_224", 64), 20, "jigsaw")
