"""The encoder: shapes of its maps, what it does to grey pictures, and names and sizes that do not fit."""

from __future__ import annotations

import pytest
import torch

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder, build_encoder, is_convolutional, uses_depthwise

SMALL = [("test_resnet", 64), ("test_vit", 64), ("test_efficientnet", 64), ("test_convnext", 64), ("resnet18", 64)]


def make(name: str, size: int) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(name, size).eval()


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_every_shape_is_the_one_announced(name: str, size: int) -> None:
    encoder, pictures = make(name, size), torch.rand(2, 1, size, size)
    maps = encoder.pyramid(pictures)
    expected = [(2, c, size // r, size // r) for c, r in zip(encoder.channels, encoder.reductions, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected
    assert encoder.reductions == sorted(encoder.reductions)
    assert encoder(pictures).shape == (2, encoder.width)
    assert encoder.last_map(pictures).shape[:2] == (2, encoder.map_width)


@pytest.mark.parametrize("name", [*(name for name, _ in SMALL), "mobilenetv3_small_050", "test_byobnet"])
def test_maps_and_features_in_one_pass_are_those_of_two(name: str) -> None:
    encoder, pictures = make(name, 64), torch.rand(2, 1, 64, 64)
    maps, features = encoder.maps_and_features(pictures)
    torch.testing.assert_close(features, encoder(pictures))
    for one, two in zip(maps, encoder.pyramid(pictures), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(("name", "size"), SMALL[:2])
def test_a_grey_picture_is_its_own_colour_picture(name: str, size: int) -> None:
    encoder, grey = make(name, size), torch.rand(2, 1, size, size)
    torch.testing.assert_close(encoder(grey), encoder(grey.repeat(1, 3, 1, 1)))


def test_input_is_normalised_with_the_statistics_of_the_backbone() -> None:
    encoder = make("resnet18", 32)
    colour = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    x = encoder.prepare_input((colour + 2 * deviation).expand(1, 3, 32, 32))
    torch.testing.assert_close(x, torch.full((1, 3, 32, 32), 2.0))


def test_resnet_features_are_the_mean_of_the_last_map() -> None:
    encoder, pictures = make("test_resnet", 64), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(encoder(pictures), encoder.last_map(pictures).mean(dim=(2, 3)))


def test_vit_features_are_the_mean_of_its_patch_tokens() -> None:
    encoder, pictures = make("test_vit", 64), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(encoder(pictures), encoder.last_map(pictures).mean(dim=(2, 3)))


def test_vit_pyramid_takes_four_evenly_spaced_blocks() -> None:
    encoder, pictures = make("vit_tiny_patch16_224", 32), torch.rand(1, 3, 32, 32)
    seen: list[torch.Tensor] = []
    for block in encoder.body.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    maps = encoder.pyramid(pictures)
    for level, block in enumerate((2, 5, 8, 11)):
        torch.testing.assert_close(maps[level].flatten(2).transpose(1, 2), seen[block][:, 1:])


def test_seeing_all_patches_is_the_ordinary_forward_pass() -> None:
    encoder, pictures = make("test_vit", 64), torch.rand(2, 3, 64, 64)
    whole = encoder.body.forward_features(encoder.prepare_input(pictures))
    torch.testing.assert_close(encoder.visible_tokens(pictures, torch.arange(16).expand(2, -1)), whole)


def test_tokens_do_not_depend_on_patches_that_are_not_seen() -> None:
    encoder, pictures = make("test_vit", 64), torch.rand(1, 3, 64, 64)
    changed = pictures.clone()
    changed[:, :, :16, 16:32] = 0  # patch 1
    seen = torch.tensor([[0, 5, 10]])
    torch.testing.assert_close(encoder.visible_tokens(pictures, seen), encoder.visible_tokens(changed, seen))
    with_it = torch.tensor([[0, 1, 10]])
    assert not torch.allclose(encoder.visible_tokens(pictures, with_it), encoder.visible_tokens(changed, with_it))


def test_weights_come_from_the_global_seed() -> None:
    one, two = make("test_resnet", 32).state_dict(), make("test_resnet", 32).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    torch.manual_seed(1)
    other = build_encoder("test_resnet", 32).state_dict()
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_families_are_told_apart() -> None:
    assert make("test_vit", 32).is_vit
    assert not make("test_resnet", 32).is_vit
    assert not make("vit_tiny_r_s16_p8_224", 32).is_vit  # its patches overlap: cut by a ResNet
    assert uses_depthwise(make("tf_efficientnet_lite0", 32))
    assert not uses_depthwise(make("test_resnet", 32))
    assert is_convolutional(make("test_resnet", 32))
    assert not is_convolutional(make("test_vit", 32))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no model 'resnet81'; did you mean 'resnet18'"):
        build_encoder("resnet81", 32)


def test_a_size_that_patches_do_not_divide_is_refused_with_those_that_fit() -> None:
    with pytest.raises(UserError, match=r"100 is no multiple of the 16-pixel patches.*take 96 or 112"):
        build_encoder("vit_tiny_patch16_224", 100)
