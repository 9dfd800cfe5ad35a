"""From a backbone's pyramid of maps to features at the size of the picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8  # groups of every GroupNorm, and the divisor of every width here


class UNet(nn.Module):
    """The decoder of a U-Net, Ronneberger et al. 2015 (arXiv:1505.04597, figure 1), over any encoder's maps.

    From the coarsest map on, each level is enlarged to the size of the next finer map, joined with it and mixed by
    two 3x3 convolutions; level i (0 is the finest) is `width * 2^i` wide. The finest level is enlarged to the
    picture and mixed once more.

    The norm is GroupNorm (Wu and He 2018, arXiv:1803.08494): batches are balanced, so the statistics a BatchNorm
    learns come from a world with many more defects than the one it is used in, and few labels mean small batches.

    Args:
        channels, reductions: width and stride of each map, finest first. Maps that all share one stride (a plain
            ViT) are first spread over four strides by `SimplePyramid`.
        width: channels of the finest level, a multiple of 8.
    """

    def __init__(self, channels: list[int], reductions: list[int], width: int) -> None:
        super().__init__()
        plain = len(channels) > 1 and len(set(reductions)) == 1
        self.spread = SimplePyramid(channels, width) if plain else None
        sizes = self.spread.channels if self.spread else channels
        widths = [width * 2**level for level in range(len(sizes) - 1)] + [sizes[-1]]
        self.levels = nn.ModuleList(
            nn.Sequential(_conv(widths[i + 1] + sizes[i], widths[i]), _conv(widths[i], widths[i]))
            for i in range(len(sizes) - 1)
        )
        self.last = _conv(widths[0], width)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps (B, channels[i], h_i, w_i), finest first -> features (B, width, *size)."""
        if self.spread:
            maps = self.spread(maps)
        x = maps[-1]
        for mix, skip in zip(reversed(self.levels), reversed(maps[:-1]), strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = mix(torch.cat([x, skip], dim=1))
        features: Tensor = self.last(F.interpolate(x, size=size, mode="bilinear", align_corners=False))
        return features


class SimplePyramid(nn.Module):
    """Maps of a plain ViT, all at the patch stride p, to strides p/4, p/2, p and 2p.

    The simple feature pyramid of ViTDet, Li et al. 2022 (arXiv:2203.16527, section 3 and figure 2): enlarged by
    2x2 transposed convolutions of stride 2, halved by pooling. Fed from four depths of the ViT instead of the last
    alone, the earliest going to the finest stride, where a U-Net wants edges rather than meaning.

    Args:
        channels: widths of the four maps, shallow to deep.
        width: width of the finest map; it doubles with each stride.
    """

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        if len(channels) != 4:
            raise ValueError(f"a plain ViT gives four maps, got {len(channels)}")
        self.channels = [width * 2**level for level in range(4)]
        deep, wide = channels, self.channels
        self.steps = nn.ModuleList(
            [
                nn.Sequential(_enlarge(deep[0], wide[1]), _enlarge(wide[1], wide[0])),
                _enlarge(deep[1], wide[1]),
                _conv(deep[2], wide[2], 1),
                nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), _conv(deep[3], wide[3], 1)),
            ]
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Four maps (B, channels[i], h, w) -> (B, width, 4h, 4w), (B, 2 width, 2h, 2w), ... , finest first."""
        return [step(x) for step, x in zip(self.steps, maps, strict=True)]


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, outputs), nn.ReLU(inplace=True))


def _enlarge(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, outputs), nn.ReLU(inplace=True))
