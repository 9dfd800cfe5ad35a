"""FCN: one score per level, added up."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_defect.nets.decoder_parts import Decoder, convolution, enlarge

LEVELS = 3  # FCN-8s adds strides 8 and 16 to stride 32


class FCN(Decoder):
    """FCN-8s, Long et al. 2015 (arXiv:1411.4038, section 4.2 and figure 3), over any encoder's maps.

    The three coarsest maps are brought to one width, the coarsest through a 3x3 convolution (what the convolved
    fully connected layers are there), the others by 1x1 convolutions; from the coarsest up each sum is enlarged and
    added to the next. Enlarging is bilinear and fixed, from where the paper's learned one begins.
    """

    def __init__(self, channels: list[int], reductions: list[int], width: int) -> None:
        super().__init__(channels, reductions, width)
        used = self.channels[-LEVELS:]
        self.leave_out(list(range(len(self.channels) - LEVELS)))
        self.deep = nn.Sequential(convolution(used[-1], width), nn.Conv2d(width, width, 1))
        self.skips = nn.ModuleList(nn.Conv2d(c, width, 1) for c in used[:-1])
        self.coarse = [width] * len(used)

    def stages(self, maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """The features, then the sums from the finest to the coarsest."""
        if self.spread:
            maps = self.spread(maps)
        used = maps[-LEVELS:]
        found = [self.deep(used[-1])]
        for skip, x in zip(reversed(self.skips), reversed(used[:-1]), strict=True):
            score = skip(x)
            found.append(score + enlarge(found[-1], (score.shape[-2], score.shape[-1])))
        return [enlarge(found[-1], size), *reversed(found)]
