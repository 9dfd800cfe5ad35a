"""From an encoder's maps to levels of one width, and the anchors on them."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork

from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.decoders import SimplePyramid

FINEST = 4  # pixels; finer maps cost much and say little of a box
GROUPS = 8
SCALES = (1.0, 2.0, 4.0)  # sides of the anchors in strides
RATIOS = (0.25, 1.0, 4.0)  # height by width of the anchors; scratches and cracks are long

group_norm = partial(nn.GroupNorm, GROUPS)


class Neck(nn.Module):
    """A feature pyramid network, Lin et al. 2017 (arXiv:1612.03144), over the maps of stride 4 and more.

    The maps of a plain ViT are first spread over four strides by `SimplePyramid`. With GroupNorm, as the decoders.

    Attributes:
        width: channels of every level.
        strides: of the levels in pixels, finest first.
    """

    def __init__(self, encoder: Encoder, width: int) -> None:
        super().__init__()
        channels, strides = encoder.channels, [float(stride) for stride in encoder.reductions]
        self.spread = None
        if len(strides) == 4 and len(set(strides)) == 1:
            self.spread = SimplePyramid(channels, width // 2)
            channels, strides = self.spread.channels, [strides[0] * factor for factor in (0.25, 0.5, 1, 2)]
        self.kept = [i for i, stride in enumerate(strides) if stride >= FINEST] or [len(strides) - 1]
        self.width, self.strides = width, [strides[i] for i in self.kept]
        self.pyramid = FeaturePyramidNetwork([channels[i] for i in self.kept], width, norm_layer=group_norm)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of `encoder.pyramid` -> levels (B, width, S / strides[i], S / strides[i])."""
        maps = self.spread(maps) if self.spread else maps
        levels = self.pyramid(OrderedDict((str(i), maps[i]) for i in self.kept))
        return list(levels.values())


class Anchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors about the centre of each cell, of sides `scale * stride`.

    torchvision's own lie on the corners of cells, have whole pixels and whole strides: too coarse for small pictures.
    """

    def __init__(
        self, strides: list[float], scales: tuple[float, ...] = SCALES, ratios: tuple[float, ...] = RATIOS
    ) -> None:
        super().__init__(
            tuple(tuple(stride * scale for scale in scales) for stride in strides), (ratios,) * len(strides)
        )
        self.strides = strides

    def generate_anchors(self, scales: Any, aspect_ratios: Any, *_: Any, **__: Any) -> Tensor:
        """Corners (A, 4) about the origin of anchors with these sides and ratios of height by width."""
        sides, ratios = torch.tensor(scales), torch.tensor(aspect_ratios).sqrt()
        widths, heights = (1 / ratios[:, None] * sides).flatten(), (ratios[:, None] * sides).flatten()
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        """For each picture the anchors (sum of A h w, 4) of all levels."""
        every = []
        for level, stride, cells in zip(feature_maps, self.strides, self.cell_anchors, strict=True):
            centres = cell_centres(level, stride)
            every.append((centres.repeat(1, 2)[:, None] + cells.to(level.device)).reshape(-1, 4))
        return [torch.cat(every)] * len(image_list.image_sizes)


def cell_centres(level: Tensor, stride: float) -> Tensor:
    """Centres (h w, 2), x and y in pixels, of the cells of a level (B, C, h, w), in reading order."""
    ys, xs = ((torch.arange(n, device=level.device, dtype=torch.float32) + 0.5) * stride for n in level.shape[-2:])
    return torch.stack([xs.repeat(len(ys)), ys.repeat_interleave(len(xs))], dim=1)
