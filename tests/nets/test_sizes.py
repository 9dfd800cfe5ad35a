"""Encoders and pictures of other sizes than their own, and ViTs of which some patches are hidden."""

from __future__ import annotations

import pytest
import timm
import torch

from ssl_defect.nets.backbones import Encoder, build_encoder


def make(name: str, size: int) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(name, size).eval()


@pytest.mark.parametrize(("name", "patch"), [("test_vit", 16), ("test_vit3", 16)])
def test_a_vit_takes_multiples_of_its_patch(name: str, patch: int) -> None:
    encoder = make(name, 64)
    assert encoder.reductions[-1] == patch
    assert [size for size in range(8, 100, 4) if encoder.accepts(size)] == [16, 32, 48, 64, 80, 96]


def test_a_convolution_takes_any_size() -> None:
    encoder = make("test_resnet", 64)
    assert all(encoder.accepts(size) for size in (16, 33, 50, 64, 96))


def test_a_swin_takes_its_own_size_alone() -> None:
    encoder = make("swin_tiny_patch4_window7_224", 64)
    assert [size for size in (32, 48, 64, 96) if encoder.accepts(size)] == [64]


@pytest.mark.parametrize("training", [True, False])
def test_asking_changes_nothing(training: bool) -> None:
    encoder = make("test_resnet", 64).train(training)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.accepts(32)
    assert all(module.training == training for module in encoder.modules())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("size", [32, 48, 96])
def test_what_is_accepted_gives_features_and_maps_of_that_size(size: int) -> None:
    encoder, pictures = make("test_vit", 64), torch.rand(2, 1, size, size)
    assert encoder(pictures).shape == (2, encoder.width)
    assert encoder.last_map(pictures).shape == (2, encoder.map_width, size // 16, size // 16)
    assert [tuple(m.shape[2:]) for m in encoder.pyramid(pictures)] == [(size // 16, size // 16)] * 4


def test_at_its_own_size_a_vit_is_timm_s() -> None:
    encoder, pictures = make("test_vit", 64), torch.rand(2, 3, 64, 64)
    plain = timm.create_model("test_vit", num_classes=0, img_size=64).eval()
    plain.load_state_dict(encoder.body.state_dict())
    theirs = plain.forward_features(encoder.prepare_input(pictures))
    torch.testing.assert_close(encoder.body.forward_features(encoder.prepare_input(pictures)), theirs, rtol=0, atol=0)


def test_positions_of_a_smaller_picture_are_those_of_the_grid_shrunk() -> None:
    """A grid of positions that rises evenly from left to right still does so, between the same ends, when shrunk."""
    encoder = make("test_vit", 128)  # a grid of 8 x 8, shrunk to 4 x 4
    body = encoder.body
    assert body.num_prefix_tokens == 1
    columns = torch.arange(8.0).repeat(8)
    with torch.no_grad():
        body.pos_embed[:, 1:] = columns.view(1, 64, 1)
        placed = body._pos_embed(torch.zeros(1, 4, 4, body.embed_dim))[0, 1:, 0].view(4, 4)
    torch.testing.assert_close(placed[0], placed[3])
    torch.testing.assert_close(placed[0].diff(), torch.full((3,), 2.0), rtol=0.1, atol=0)  # bicubic, with borders
    assert float(placed[0].mean()) == pytest.approx(3.5, abs=1e-4)


def token_of(encoder: Encoder) -> torch.Tensor:
    return torch.linspace(-1, 1, encoder.map_width).view(1, 1, -1)


def test_with_nothing_hidden_masked_tokens_are_the_ordinary_ones() -> None:
    encoder, pictures = make("test_vit", 64), torch.rand(2, 3, 64, 64)
    tokens = encoder.masked_tokens(pictures, torch.zeros(2, 16, dtype=torch.bool), token_of(encoder))
    torch.testing.assert_close(tokens, encoder.last_map(pictures).flatten(2).transpose(1, 2))


def test_hidden_patches_are_not_seen_and_the_others_are() -> None:
    encoder, pictures = make("test_vit", 64), torch.rand(1, 3, 64, 64)
    hidden = torch.zeros(1, 16, dtype=torch.bool)
    hidden[0, 6] = True  # second row, third column
    changed = pictures.clone()
    changed[:, :, 16:32, 32:48] = 0
    one, two = (encoder.masked_tokens(x, hidden, token_of(encoder)) for x in (pictures, changed))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    changed[:, :, 16:32, 48:64] = 0  # its neighbour is in sight
    assert not torch.allclose(one, encoder.masked_tokens(changed, hidden, token_of(encoder)))


def test_all_hidden_patches_differ_by_their_place_alone() -> None:
    encoder = make("test_vit", 64)
    hidden = torch.ones(2, 16, dtype=torch.bool)
    tokens = encoder.masked_tokens(torch.rand(2, 3, 64, 64), hidden, token_of(encoder))
    torch.testing.assert_close(tokens[0], tokens[1])  # nothing of the pictures is left
    assert not torch.allclose(tokens[0, 0], tokens[0, 5])  # but positions are
    with torch.no_grad():
        encoder.body.pos_embed.zero_()
    tokens = encoder.masked_tokens(torch.rand(1, 3, 64, 64), hidden[:1], token_of(encoder))
    torch.testing.assert_close(tokens[0, 0], tokens[0, 5])


def test_the_learned_token_gets_the_gradient_of_hidden_patches_alone() -> None:
    encoder, pictures = make("test_vit", 64), torch.rand(1, 3, 64, 64)
    token = token_of(encoder).requires_grad_()
    for count in (0, 4):
        hidden = torch.arange(16).view(1, -1) < count
        encoder.masked_tokens(pictures, hidden, token).square().sum().backward()
        assert token.grad is not None
        assert bool(token.grad.any()) == (count > 0)
