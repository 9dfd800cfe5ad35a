"""Every decoder over CNN and ViT pyramids, and what each of them is by its paper."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.decoder_parts import Decoder
from ssl_defect.nets.decoders import DECODERS, FCN, FPN, DeepLab, SimplePyramid, UNet, build_decoder
from ssl_defect.nets.deeplab import AtrousPooling, rates

CNN = ([8, 16, 24, 32], [2, 4, 8, 16])
VIT = ([24, 24, 24, 24], [16, 16, 16, 16])
SHORT = ([8, 16], [4, 8])


def maps(channels: list[int], reductions: list[int], size: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, -(-size // r), -(-size // r), generator=draw)
        for c, r in zip(channels, reductions, strict=True)
    ]


def make(name: str, channels: list[int], reductions: list[int], width: int = 8) -> Decoder:
    torch.manual_seed(0)
    return DECODERS[name](channels, reductions, width)


@pytest.mark.parametrize("size", [32, 50, 96])
@pytest.mark.parametrize(("channels", "reductions"), [CNN, VIT, SHORT])
@pytest.mark.parametrize("name", DECODERS)
def test_output_has_the_size_of_the_picture(name: str, channels: list[int], reductions: list[int], size: int) -> None:
    decoder, levels = make(name, channels, reductions), maps(channels, reductions, size)
    features, *coarse = decoder.stages(levels, (size, size))
    assert features.shape == (2, 8, size, size)
    assert torch.equal(decoder(levels, (size, size)), features)
    assert [level.shape[1] for level in coarse] == decoder.coarse
    sides = [level.shape[-1] for level in coarse]
    assert sides == sorted(sides, reverse=True)
    assert all(side <= size for side in sides)


@pytest.mark.parametrize(("channels", "reductions"), [CNN, VIT])
@pytest.mark.parametrize("name", DECODERS)
def test_no_picture_sees_another_and_the_coarsest_map_reaches_the_output(
    name: str, channels: list[int], reductions: list[int]
) -> None:
    levels = [m.requires_grad_() for m in maps(channels, reductions, 64)]
    make(name, channels, reductions)(levels, (64, 64))[0, :, 32, 32].square().sum().backward()
    reached = [level.grad is not None and bool(level.grad[0].any()) for level in levels]
    assert reached[-1]
    assert sum(reached) >= 2
    assert all(reached) or name != "unet"
    for level in levels:
        assert level.grad is None or not bool(level.grad[1].any())  # GroupNorm


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("name", DECODERS)
def test_gradients_reach_the_encoder_and_all_of_the_decoder(name: str, backbone: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(backbone, 64)
    decoder = build_decoder(name, encoder, 8)
    decoder(encoder.pyramid(torch.rand(2, 1, 64, 64)), (64, 64)).square().mean().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in decoder.parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in encoder.parameters())


@pytest.mark.parametrize("place", [(2, 2), (2, 125), (125, 2), (63, 63), (125, 125)])
@pytest.mark.parametrize("name", DECODERS)
def test_the_output_changes_most_where_the_maps_changed_at_borders_as_inside(name: str, place: tuple[int, int]) -> None:
    channels, reductions = CNN
    decoder, levels = make(name, channels, reductions), maps(channels, reductions, 128)
    moved = [level.clone() for level in levels]
    for level, stride in zip(moved, reductions, strict=True):
        level[..., place[0] // stride, place[1] // stride] += 0.1  # little, or the norms change everywhere
    with torch.no_grad():
        change = (decoder(moved, (128, 128)) - decoder(levels, (128, 128))).square().sum(dim=(0, 1))
    y, x = divmod(int(F.avg_pool2d(change[None, None], 5, 1, 2).argmax()), 128)
    assert abs(y - place[0]) <= 1.5 * reductions[-1]
    assert abs(x - place[1]) <= 1.5 * reductions[-1]


@pytest.mark.parametrize(("channels", "reductions"), [CNN, VIT])
@pytest.mark.parametrize("name", DECODERS)
def test_channels_last_and_bfloat16_agree_with_plain_float32(
    name: str, channels: list[int], reductions: list[int]
) -> None:
    decoder, inputs = make(name, channels, reductions), maps(channels, reductions, 64)
    expected = decoder(inputs, (64, 64))
    moved = decoder.to(memory_format=torch.channels_last)
    last = [m.to(memory_format=torch.channels_last) for m in inputs]
    torch.testing.assert_close(moved(last, (64, 64)), expected, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        low = moved(last, (64, 64))
    assert bool(torch.isfinite(low).all())
    assert (low.float() - expected).abs().mean() < 0.03


@pytest.mark.parametrize("name", DECODERS)
def test_the_norm_keeps_no_statistics(name: str) -> None:
    decoder = make(name, *CNN)
    assert not list(decoder.buffers())
    assert any(isinstance(module, nn.GroupNorm) for module in decoder.modules())


@pytest.mark.parametrize(
    ("name", "count"), [("unet", 37_680), ("fcn", 2_728), ("fpn", 12_256), ("deeplabv3plus", 9_736)]
)
def test_number_of_parameters(name: str, count: int) -> None:
    assert sum(p.numel() for p in make(name, *CNN).parameters()) == count


def test_simple_pyramid_spreads_one_stride_over_four() -> None:
    out = SimplePyramid([24] * 4, 8)(maps(*VIT, 64))
    assert [tuple(m.shape[1:]) for m in out] == [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]
    assert UNet(*VIT, 8).reductions == [4, 8, 16, 32]


def test_the_parameters_of_a_unet_keep_the_names_that_pretraining_hands_over() -> None:
    names = set(UNet(*VIT, 8).state_dict())
    assert {name.split(".")[0] for name in names} == {"spread", "levels", "last"}
    assert {"levels.0.0.0.weight", "levels.2.1.1.bias", "last.0.weight", "spread.steps.0.0.0.weight"} <= names


def test_fcn_adds_the_scores_of_three_levels() -> None:
    decoder, (a, b, c) = FCN([4, 4, 4], [4, 8, 16], 8), maps([4, 4, 4], [4, 8, 16], 32)
    deep = decoder.deep(c)
    middle = decoder.skips[1](b) + F.interpolate(deep, scale_factor=2, mode="bilinear")
    fine = decoder.skips[0](a) + F.interpolate(middle, scale_factor=2, mode="bilinear")
    expected = F.interpolate(fine, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(decoder([a, b, c], (32, 32)), expected)


def test_fpn_sums_branches_at_stride_4_and_leaves_finer_maps_alone() -> None:
    decoder, levels = FPN(*CNN, 8), maps(*CNN, 64)
    assert [len(branch) for branch in decoder.branches] == [1, 1, 2]  # strides 4, 8, 16
    x = decoder.pyramid({"a": levels[1], "b": levels[2], "c": levels[3]})
    a, b, c = decoder.branches
    one, two = a[0](x["a"]), F.interpolate(b[0](x["b"]), scale_factor=2, mode="bilinear")
    three = F.interpolate(c[0](x["c"]), scale_factor=2, mode="bilinear")
    three = F.interpolate(c[1](three), scale_factor=2, mode="bilinear")
    expected = F.interpolate(one + two + three, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(decoder(levels, (64, 64)), expected)


def test_atrous_rates_are_the_papers_at_its_size_and_fit_smaller_maps() -> None:
    assert rates(33) == [6, 12, 18]
    assert rates(8) == [1, 3, 4]
    assert rates(1) == [1, 1, 1]
    assert all(rates(side)[-1] < side for side in range(3, 100))


def test_atrous_pooling_by_its_parts() -> None:
    torch.manual_seed(0)
    pooling, x = AtrousPooling(4, 8), torch.randn(2, 4, 16, 16)
    parts = [pooling.point(x), pooling.whole(x).expand(-1, -1, 16, 16)]
    for layer, rate in zip(pooling.atrous, (3, 6, 9), strict=True):
        conv = nn.Conv2d(4, 8, 3, padding=rate, dilation=rate, bias=False)
        conv.weight = layer[0].weight
        parts.append(F.relu(layer[1](conv(x))))
    torch.testing.assert_close(pooling(x), pooling.join(torch.cat(parts, dim=1)))


def test_deeplab_takes_the_map_of_stride_4_or_the_next_finer() -> None:
    assert DeepLab(*CNN, 8).fine == 1
    assert DeepLab([8, 16], [8, 16], 8).fine == 0
    assert DeepLab([8, 16], [2, 16], 8).fine == 0


@pytest.mark.parametrize("name", ["fpn", "deeplabv3plus"])
def test_a_decoder_that_does_not_fit_names_those_that_do(name: str) -> None:
    encoder = SimpleNamespace(name="flat", channels=[8], reductions=[16])
    with pytest.raises(UserError, match=rf"'{name}' needs 2 maps.* flat gives 1; take one of unet, fcn,") as error:
        build_decoder(name, encoder, 8)
    assert "\n" not in str(error.value)
    for fitting in ("unet", "fcn"):
        x = torch.randn(1, 8, 4, 4)
        assert build_decoder(fitting, encoder, 8)([x], (64, 64)).shape == (1, 8, 64, 64)
