"""Reverse distillation, Deng and Li 2022 (arXiv:2201.10703): a student rebuilds a teacher's maps from one embedding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_defect.nets.anomaly.layers import Residual, normed, sized
from ssl_defect.nets.anomaly.options import LevelOptions, TrainedOptions
from ssl_defect.nets.anomaly.patches import levels_of
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.backbones import Encoder


class Options(LevelOptions, TrainedOptions):
    """Settings of reverse distillation."""

    width: int = Field(
        128, ge=8, le=2048, description="Most channels of a level of the student; none has more than the teacher's."
    )
    batch_size: int = Field(16, ge=2, description="Images per step; BatchNorm needs two.")
    learning_rate: float = Field(5e-3, gt=0, le=1, description="Peak of a cosine, AdamW; the value of the paper.")


class ReverseDistillation(TrainedHead):
    """The encoder is the teacher; its maps, fused and embedded, are what a small student rebuilds them from.

    What good parts do not have does not pass through the embedding, so that there teacher and student disagree. The
    maps of a plain ViT share one stride: they are fused as they are, and the embedding alone is coarser.

    Options:
        strides: of the maps.
        width: most channels of a level of the student.
    """

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.levels = levels_of(encoder, options["strides"])
        channels = [encoder.channels[level] for level in self.levels]
        strides = [encoder.reductions[level] for level in self.levels]
        self.student = Student(channels, strides, options["width"])

    def loss(self, encoder: Encoder, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The sum over levels of the mean distance, equation 2, taken place by place."""
        parts = [distance.mean() for distance in self._compared(encoder, x)]
        return {"loss": torch.stack(parts).sum()}

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distances" (B, h, w), the sum of the levels at the size of the finest, and "distance" (B,), its maximum.

        Both lie in [0, 2 levels] (section 3.4).
        """
        found = self._compared(encoder, x)
        size = found[0].shape[-2:]
        maps = [F.interpolate(m[:, None], size=size, mode="bilinear", align_corners=False)[:, 0] for m in found]
        distances = torch.stack(maps).sum(dim=0)
        return {"distance": distances.amax(dim=(1, 2)), "distances": distances}

    def _compared(self, encoder: Encoder, x: Tensor) -> list[Tensor]:
        """Distances (B, h_i, w_i) of each level, finest first."""
        with torch.no_grad():
            maps = encoder.pyramid(x)
            taught = [maps[level].float() for level in self.levels]
        return [cosine_distance(a, b) for a, b in zip(taught, self.student(taught), strict=True)]


class Student(nn.Module):
    """From maps of the teacher to one embedding, and from there back to maps like them, coarsest first.

    Args:
        channels, strides: of the teacher's maps, finest first.
        width: most channels of a level.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int) -> None:
        super().__init__()
        widths = [min(count, width) for count in channels]
        halvings = [round(math.log2(strides[-1] / stride)) for stride in strides]
        self.halve = nn.ModuleList(
            _halved(count, wide, times) for count, wide, times in zip(channels, widths, halvings, strict=True)
        )
        fused = sum(w if times else c for c, w, times in zip(channels, widths, halvings, strict=True))
        self.fuse = normed(fused, widths[-1], 1)
        self.embed = Residual(widths[-1], 2 * widths[-1], 2)
        above = [*widths[1:], 2 * widths[-1]]
        self.grow = nn.ModuleList(Residual(a, b) for a, b in zip(above, widths, strict=True))
        self.leave = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths, channels, strict=True))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (B, channels[i], h_i, w_i), finest first -> maps of the same shapes."""
        size = maps[-1].shape[-2:]
        x = F.relu(self.fuse(torch.cat([sized(f(m), size) for f, m in zip(self.halve, maps, strict=True)], dim=1)))
        x, painted = self.embed(x), []
        for level in reversed(range(len(maps))):
            x = self.grow[level](sized(x, maps[level].shape[-2:]))
            painted.append(self.leave[level](x))
        return painted[::-1]


def cosine_distance(one: Tensor, two: Tensor) -> Tensor:
    """1 - cosine of the features (B, D, h, w) in every place, equation 1: (B, h, w) in [0, 2].

    As half the squared distance of unit vectors: exactly 0 for equal features, and never below.
    """
    return (F.normalize(one.float(), dim=1) - F.normalize(two.float(), dim=1)).square().sum(dim=1) / 2


def _halved(inputs: int, outputs: int, times: int) -> nn.Sequential:
    """As many 3x3 convolutions of stride 2."""
    steps: list[nn.Module] = []
    for number in range(times):
        steps += [normed(outputs if number else inputs, outputs, 3, 2), nn.ReLU(inplace=True)]
    return nn.Sequential(*steps)


HEADS = {"reverse_distillation": ReverseDistillation}
OPTIONS = {"reverse_distillation": Options}
