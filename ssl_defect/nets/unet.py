"""U-Net: from the coarsest map up, each finer one joined on the way."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_defect.nets.decoder_parts import Decoder, convolution, enlarge


class UNet(Decoder):
    """The decoder of a U-Net, Ronneberger et al. 2015 (arXiv:1505.04597, figure 1), over any encoder's maps.

    From the coarsest map on, each level is enlarged to the size of the next finer map, joined with it and mixed by
    two 3x3 convolutions; level i (0 is the finest) is `width * 2^i` wide. The finest level is enlarged to the
    picture and mixed once more.
    """

    def __init__(self, channels: list[int], reductions: list[int], width: int) -> None:
        super().__init__(channels, reductions, width)
        sizes = self.channels
        widths = [width * 2**level for level in range(len(sizes) - 1)] + [sizes[-1]]
        self.levels = nn.ModuleList(
            nn.Sequential(convolution(widths[i + 1] + sizes[i], widths[i]), convolution(widths[i], widths[i]))
            for i in range(len(sizes) - 1)
        )
        self.last = convolution(widths[0], width)
        self.coarse = widths[:-1]

    def stages(self, maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """The features, then every level from the finest to the second coarsest."""
        if self.spread:
            maps = self.spread(maps)
        x, found = maps[-1], []
        for mix, skip in zip(reversed(self.levels), reversed(maps[:-1]), strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = mix(torch.cat([x, skip], dim=1))
            found.append(x)
        return [self.last(enlarge(x, size)), *reversed(found)]
