"""What every decoder is made of: its interface, convolutions with a norm, and the pyramid of a plain ViT."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8  # groups of every GroupNorm, and the divisor of every width here


class Decoder(nn.Module):
    """From a backbone's maps to features at the size of the picture.

    The norm of all decoders is GroupNorm (Wu and He 2018, arXiv:1803.08494), whatever their papers take: batches are
    balanced, so the statistics a BatchNorm learns come from a world with many more defects than the one it is used
    in, and few labels mean small batches.

    Args:
        channels, reductions: width and stride of each map, finest first. Maps that all share one stride (a plain
            ViT) are first spread over four strides by `SimplePyramid`.
        width: channels of the features, a multiple of 8.

    Attributes:
        least: number of maps that it needs at least.
        channels, reductions: those of the maps once they are spread.
        coarse: channels of each coarser level that `stages` gives behind the features.
    """

    least: ClassVar[int] = 1

    def __init__(self, channels: list[int], reductions: list[int], width: int) -> None:
        super().__init__()
        plain = len(channels) > 1 and len(set(reductions)) == 1
        self.spread = SimplePyramid(channels, width) if plain else None
        self.channels = self.spread.channels if self.spread else channels
        stride = reductions[0]
        self.reductions = [max(1, stride // 4), max(1, stride // 2), stride, 2 * stride] if plain else reductions
        self.coarse: list[int] = []

    def leave_out(self, levels: list[int]) -> None:
        """Spread no ViT over levels that are not looked at: their weights would never learn."""
        if self.spread:
            for level in levels:
                self.spread.steps[level] = nn.Identity()

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps (B, channels[i], h_i, w_i), finest first -> features (B, width, *size)."""
        return self.stages(maps, size)[0]

    def stages(self, maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """The features of `forward`, then the levels (B, coarse[i], h, w) that they come from: deep supervision."""
        raise NotImplementedError


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
                convolution(deep[2], wide[2], 1),
                nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), convolution(deep[3], wide[3], 1)),
            ]
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Four maps (B, channels[i], h, w) -> (B, width, 4h, 4w), (B, 2 width, 2h, 2w), ... , finest first."""
        return [step(x) for step, x in zip(self.steps, maps, strict=True)]


def convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """A convolution that keeps the size, GroupNorm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, outputs), nn.ReLU(inplace=True))


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, to `size`."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _enlarge(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, outputs), nn.ReLU(inplace=True))
