"""FPN: a pyramid with meaning at every level, and a branch that adds the levels up."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ssl_defect.nets.decoder_parts import Decoder, convolution, enlarge

FINEST = 4  # stride of the level at which the branches meet


class FPN(Decoder):
    """The semantic branch of Panoptic FPN, Kirillov et al. 2019 (arXiv:1901.02446, section 3 and figure 3).

    A feature pyramid (Lin et al. 2017, arXiv:1612.03144; torchvision's, without norm as there) over the maps of stride
    4 and coarser, `2 * width` wide. Each level comes to stride 4 in steps of a 3x3 convolution, norm, ReLU and
    doubling, `width` wide; the sum is enlarged to the picture.
    """

    least: ClassVar[int] = 2

    def __init__(self, channels: list[int], reductions: list[int], width: int) -> None:
        from torchvision.ops import FeaturePyramidNetwork  # slow to load

        super().__init__(channels, reductions, width)
        wanted = sum(r >= FINEST for r in self.reductions)
        self.used = wanted if wanted >= self.least else len(self.channels)
        self.leave_out(list(range(len(self.channels) - self.used)))
        self.pyramid = FeaturePyramidNetwork(self.channels[-self.used :], 2 * width)
        self.branches = nn.ModuleList(
            nn.ModuleList(convolution(2 * width if step == 0 else width, width) for step in range(max(1, level)))
            for level in range(self.used)
        )
        self.coarse = [2 * width] * self.used

    def stages(self, maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """The features, then the levels of the pyramid, finest first."""
        if self.spread:
            maps = self.spread(maps)
        used = OrderedDict((str(i), x) for i, x in enumerate(maps[-self.used :]))
        levels: list[Tensor] = list(self.pyramid(used).values())
        sizes = [(x.shape[-2], x.shape[-1]) for x in levels]
        parts = [self._branch(level, levels[level], sizes) for level in range(self.used)]
        return [enlarge(torch.stack(parts).sum(dim=0), size), *levels]

    def _branch(self, level: int, x: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        branch = cast(nn.ModuleList, self.branches[level])
        for step, mix in enumerate(branch):
            # to the sizes of the maps on the way, which are no exact doublings where the picture is no multiple
            x = enlarge(mix(x), sizes[max(0, level - step - 1)])
        return x
