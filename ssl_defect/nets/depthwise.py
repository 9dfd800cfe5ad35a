"""Depthwise convolutions on maps smaller than their kernel: the same gradients, without the slow path of a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional, grad

Pair = tuple[int, int]


def quicken(body: nn.Module) -> nn.Module:
    """The module itself, its depthwise convolutions as `DepthwiseConv2d`; names, weights and outputs stay the same."""
    for module in body.modules():
        if type(module) is nn.Conv2d and _is_depthwise(module):
            module.__class__ = DepthwiseConv2d
    return body


def _is_depthwise(conv: nn.Conv2d) -> bool:
    """One filter for each channel, larger than one pixel, without what `DepthwiseConv2d` leaves out."""
    plain = conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and conv.groups == conv.in_channels == conv.out_channels > 1 and max(conv.kernel_size) > 1


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` of one filter per channel that trains fast where the map is smaller than the kernel.

    There, as in the last stages of a small picture, oneDNN has no kernel for the gradient of the weights but its
    reference one, which on a CPU takes up to half of a step at 64 px (experiments/benchmarks).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, h, w)."""
        if not (torch.is_grad_enabled() and self.weight.requires_grad and _is_slow(x, self.weight)):
            return super().forward(x)
        assert not isinstance(self.padding, str)
        return _SmallMap.apply(x, self.weight, self.bias, self.stride, self.padding)  # type: ignore[no-any-return]


def _is_slow(x: Tensor, weight: Tensor) -> bool:
    smaller = x.shape[2] < weight.shape[2] or x.shape[3] < weight.shape[3]
    return smaller and x.device.type == "cpu" and x.dtype == weight.dtype and not torch.is_autocast_enabled("cpu")


class _SmallMap(torch.autograd.Function):
    """The convolution as it is; only the gradient of its weights is made otherwise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        dx = dw = db = None
        if of_x:
            size, per_channel = tuple(x.shape), len(weight)
            dx = grad.conv2d_input(size, weight, change, ctx.stride, ctx.padding, 1, per_channel)  # type: ignore[no-untyped-call]
        if of_weight:
            dw = weight_gradient(change, x, weight, ctx.stride, ctx.padding)
        if of_bias:
            db = change.sum((0, 2, 3))
        return dx, dw, db, None, None


def weight_gradient(change: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Gradient of a depthwise convolution's weights, tap by tap: what each met, times what came back from there.

    Args:
        change: (B, C, h, w) gradient of the output; `x`: (B, C, H, W) input; `weight`: (C, 1, K, L), for its shape.

    Returns:
        (C, 1, K, L).
    """
    found = torch.zeros_like(weight)
    rows = [_overlap(tap, x.shape[2], change.shape[2], stride[0], padding[0]) for tap in range(weight.shape[2])]
    columns = [_overlap(tap, x.shape[3], change.shape[3], stride[1], padding[1]) for tap in range(weight.shape[3])]
    for i, (top, down) in enumerate(rows):
        for j, (left, along) in enumerate(columns):
            met, back = x[:, :, top, left], change[:, :, down, along]
            if met.numel():  # else this tap lies on the padding alone
                found[:, 0, i, j] = (met * back).sum((0, 2, 3))
    return found


def _overlap(tap: int, size: int, out: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Places of the input that a tap meets, and those of the output for which it does."""
    first = max(0, -((tap - padding) // stride))  # of the output, for which `place * stride + tap - padding` is >= 0
    last = min(out - 1, (size - 1 + padding - tap) // stride)  # and < size
    if last < first:
        return slice(0, 0), slice(0, 0)
    begin, end = (place * stride + tap - padding for place in (first, last))
    return slice(begin, end + 1, stride), slice(first, last + 1)
