"""Depthwise convolutions on small maps: values and gradients are those of torch, and the quick way is gone."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ssl_defect.nets import depthwise
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.depthwise import DepthwiseConv2d, quicken, weight_gradient


@settings(max_examples=80, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
def test_the_gradient_of_the_weights_is_that_of_torch(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], size: tuple[int, int]
) -> None:
    assume(all(side + 2 * pad >= taps for side, pad, taps in zip(size, padding, kernel, strict=True)))
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    weight = torch.randn(3, 1, *kernel, dtype=torch.float64, requires_grad=True)
    y = nn.functional.conv2d(x, weight, None, stride, padding, 1, 3)
    change = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, weight, change)
    torch.testing.assert_close(weight_gradient(change, x, weight.detach(), stride, padding), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_layer_passes_the_numerical_check_of_its_gradients(bias: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = quicken(nn.Sequential(nn.Conv2d(2, 2, 5, padding=2, groups=2, bias=bias))).double()[0]  # type: ignore[index]
    assert isinstance(layer, DepthwiseConv2d)
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    inputs = (x, *layer.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), inputs)


@pytest.mark.parametrize(
    ("name", "size"), [("tf_efficientnet_lite0", 64), ("convnext_atto", 64), ("test_convnext", 32)]
)
def test_a_backbone_keeps_its_weights_outputs_and_gradients(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=0)
    torch.manual_seed(0)
    encoder = build_encoder(name, size)
    assert list(encoder.body.state_dict()) == list(plain.state_dict())
    for mine, theirs in zip(encoder.body.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    used = counted(monkeypatch)
    pictures = torch.rand(2, 3, size, size)
    mine, theirs = encoder(pictures), plain(encoder.prepare_input(pictures))
    assert torch.equal(mine, theirs)
    mine.square().sum().backward()
    theirs.square().sum().backward()
    assert used
    for one, two in zip(encoder.body.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-4 * float(two.grad.abs().max()))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the maps for which the quick way was gone."""
    used: list[tuple[int, ...]] = []
    original = depthwise.weight_gradient

    def count(change: Tensor, x: Tensor, *rest: object) -> Tensor:
        used.append(tuple(x.shape))
        return original(change, x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(depthwise, "weight_gradient", count)
    return used


@pytest.mark.parametrize(
    ("size", "frozen", "half", "quick"),
    [(4, False, False, True), (5, False, False, False), (4, True, False, False), (4, False, True, False)],
)
def test_the_quick_way_is_for_maps_smaller_than_the_kernel(
    size: int, frozen: bool, half: bool, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = counted(monkeypatch)
    layer = quicken(nn.Sequential(nn.Conv2d(4, 4, 5, padding=2, groups=4)))
    layer.requires_grad_(not frozen)
    x = torch.randn(2, 4, size, size, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        layer(x).float().sum().backward()
    assert x.grad is not None
    assert bool(used) == quick


def test_other_convolutions_are_left_as_they_are() -> None:
    others = [
        nn.Conv2d(4, 4, 3),  # dense
        nn.Conv2d(4, 8, 3, groups=4),  # two filters a channel
        nn.Conv2d(4, 4, 1, groups=4),  # one pixel
        nn.Conv2d(4, 4, 3, groups=4, dilation=2),
        nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, groups=4, padding="same"),
        nn.Conv2d(1, 1, 3),
    ]
    for one in quicken(nn.Sequential(*copy.deepcopy(others))):  # type: ignore[attr-defined]
        assert type(one) is nn.Conv2d
