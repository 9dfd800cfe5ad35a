"""Layers with BatchNorm that the detectors which learn are made of.

GroupNorm, as the supervised decoders have it, would not do: normalised over its own picture, a map forgets how bright
the picture is, and that has to be painted. All pictures here are good ones, so the statistics are those of one world.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, arXiv:1512.03385, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            normed(inputs, outputs, 3, stride), nn.ReLU(inplace=True), normed(outputs, outputs, 3)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else normed(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride), rounded up."""
        return F.relu(self.body(x) + self.shortcut(x))


def normed(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution and BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def sized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (B, D, h, w) at another size (height, width), by repeating or leaving out cells."""
    return x if x.shape[-2:] == size else F.interpolate(x, size=tuple(size), mode="nearest")
