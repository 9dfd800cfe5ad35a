"""DeepLabV3+: the coarsest map seen at several rates, sharpened by a fine one."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_defect.nets.decoder_parts import GROUPS, Decoder, convolution, enlarge

RATES = (6, 12, 18)  # of maps of `SIDE` cells: pictures of 513 pixels at stride 16
SIDE = 33
FINEST = 4  # stride of the fine map


class DeepLab(Decoder):
    """The decoder of DeepLabV3+, Chen et al. 2018 (arXiv:1802.02611, section 3.1 and figure 2), over any encoder.

    Atrous spatial pyramid pooling over the coarsest map, enlarged to the map of stride 4, joined with that (brought to
    3/16 of the width, the paper's 48 of 256) and mixed by two 3x3 convolutions. The encoder keeps its strides: the
    paper's output stride of 16 would need dilated backbones.
    """

    least: ClassVar[int] = 2

    def __init__(self, channels: list[int], reductions: list[int], width: int) -> None:
        super().__init__(channels, reductions, width)
        finer = [i for i, r in enumerate(self.reductions[:-1]) if r <= FINEST]
        self.fine = finer[-1] if finer else 0
        self.leave_out([i for i in range(len(self.channels) - 1) if i != self.fine])
        slim = max(GROUPS, round(width * 3 / 16 / GROUPS) * GROUPS)
        self.pooling = AtrousPooling(self.channels[-1], width)
        self.slim = convolution(self.channels[self.fine], slim, 1)
        self.mix = nn.Sequential(convolution(width + slim, width), convolution(width, width))
        self.coarse = [width, width]

    def stages(self, maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """The features, then the same at stride 4, then the pooled coarsest map."""
        if self.spread:
            maps = self.spread(maps)
        fine = self.slim(maps[self.fine])
        pooled = self.pooling(maps[-1])
        mixed = self.mix(torch.cat([enlarge(pooled, (fine.shape[-2], fine.shape[-1])), fine], dim=1))
        return [enlarge(mixed, size), mixed, pooled]


class AtrousPooling(nn.Module):
    """Atrous spatial pyramid pooling with image features, Chen et al. 2017 (arXiv:1706.05587, section 3.3, figure 5).

    The rates are the paper's 6, 12 and 18 in proportion to the map: on a map of 4 cells a rate of 6 would see nothing
    but padding.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.point = convolution(inputs, width, 1)
        self.atrous = nn.ModuleList(convolution(inputs, width) for _ in RATES)
        # no norm: over one cell, GroupNorm would leave the group's pattern and drop its strength
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, width, 1), nn.ReLU(inplace=True))
        self.join = convolution((len(RATES) + 2) * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, width, h, w)."""
        parts = [self.point(x), self.whole(x).expand(-1, -1, *x.shape[-2:])]
        for layer, rate in zip(self.atrous, rates(min(x.shape[-2:])), strict=True):
            conv, norm, active = cast(nn.Sequential, layer)
            seen = F.conv2d(x, cast(Tensor, conv.weight), padding=rate, dilation=rate)
            parts.append(active(norm(seen)))
        joined: Tensor = self.join(torch.cat(parts, dim=1))
        return joined


def rates(side: int) -> list[int]:
    """Atrous rates for maps of `side` cells, at least 1."""
    return [max(1, round(rate * side / SIDE)) for rate in RATES]
