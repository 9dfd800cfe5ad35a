"""The U-Net over CNN and ViT pyramids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_defect.nets.decoders import SimplePyramid, UNet

CNN = ([8, 16, 24, 32], [2, 4, 8, 16])
VIT = ([24, 24, 24, 24], [16, 16, 16, 16])


def maps(channels: list[int], reductions: list[int], size: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, -(-size // r), -(-size // r), generator=draw)
        for c, r in zip(channels, reductions, strict=True)
    ]


@pytest.mark.parametrize("size", [32, 50, 96])
@pytest.mark.parametrize(("channels", "reductions"), [CNN, VIT, ([8, 16], [4, 8])])
def test_output_has_the_size_of_the_picture(channels: list[int], reductions: list[int], size: int) -> None:
    decoder = UNet(channels, reductions, width=8)
    assert decoder(maps(channels, reductions, size), (size, size)).shape == (2, 8, size, size)


@pytest.mark.parametrize(("channels", "reductions"), [CNN, VIT])
def test_every_map_reaches_the_output(channels: list[int], reductions: list[int]) -> None:
    levels = [m.requires_grad_() for m in maps(channels, reductions, 64)]
    torch.manual_seed(0)
    out = UNet(channels, reductions, width=8)(levels, (64, 64))
    out[0, :, 32, 32].sum().backward()
    for level in levels:
        assert level.grad is not None
        assert bool(level.grad[0].any())
        assert not bool(level.grad[1].any())  # GroupNorm: no picture sees another


def test_simple_pyramid_spreads_one_stride_over_four() -> None:
    out = SimplePyramid([24] * 4, 8)(maps(*VIT, 64))
    assert [tuple(m.shape[1:]) for m in out] == [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]


@pytest.mark.parametrize(("channels", "reductions"), [CNN, VIT])
def test_channels_last_and_bfloat16_agree_with_plain_float32(channels: list[int], reductions: list[int]) -> None:
    torch.manual_seed(0)
    decoder, inputs = UNet(channels, reductions, width=8), maps(channels, reductions, 64)
    expected = decoder(inputs, (64, 64))
    moved = decoder.to(memory_format=torch.channels_last)
    last = [m.to(memory_format=torch.channels_last) for m in inputs]
    torch.testing.assert_close(moved(last, (64, 64)), expected, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        low = moved(last, (64, 64))
    assert (low.float() - expected).abs().mean() < 0.03
