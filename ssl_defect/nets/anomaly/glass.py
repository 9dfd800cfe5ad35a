"""After GLASS, Chen et al. 2024 (ECCV, arXiv:2407.09359): good patches against noise that climbs and drawn defects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.data.defects import Look, draw_defects
from ssl_defect.nets.anomaly.base import Pictures
from ssl_defect.nets.anomaly.discriminator import PatchDiscriminator, gaussian
from ssl_defect.nets.anomaly.options import LevelOptions, TrainedOptions
from ssl_defect.nets.anomaly.patches import levels_of, patch_features, patch_width
from ssl_defect.nets.anomaly.scaling import measure
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.mask_losses import binary_focal_loss

LOOK = Look(area=(0.00005, 0.25), good=0.0)


class Options(LevelOptions, TrainedOptions):
    """Settings of GLASS."""

    noise: float = Field(
        0.5, gt=0, le=10, description="Standard deviation of the noise, where each feature has 1 over all good patches."
    )
    ascents: int = Field(5, ge=0, le=100, description="Steps by which the noise climbs; published 20, shorter ones.")
    ascent: float = Field(0.02, ge=0, le=1, description="Length of such a step, as a share of the noise's length.")
    focal: float = Field(10.0, ge=0, description="Weight of the focal loss on patches with drawn defects.")
    hidden: int = Field(256, ge=1, le=4096, description="Width of the discriminator; published 1024 for 1536 features.")
    weight_decay: float = Field(1e-5, ge=0, le=1, description="AdamW; as published for the adaptor.")


class GLASS(TrainedHead):
    """SimpleNet's discriminator, taught by three kinds of patches: good, anomalous in features, and with drawn defects.

    Features with noise climb the gradient of their loss, towards what passes for good, and are then kept at one to two
    lengths of the noise from the good feature they come from (gradient ascent and truncated projection
    under its manifold hypothesis). Other than published, the defects in pictures are those of `data.defects` instead
    of textures under Perlin noise, the hypersphere hypothesis and the mining of hard patches are left out, and the
    features come at unit scale. Distances are those of SimpleNet.

    Options:
        strides: of the maps.
        noise: standard deviation, in deviations of a feature.
        ascents, ascent: number of the steps, and their length over that of the noise.
        focal: weight of the drawn defects.
        hidden: width of the discriminator.
    """

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        levels = levels_of(encoder, options["strides"])
        width = patch_width(encoder, levels)
        self.radius: float = options["noise"] * width**0.5
        self.net = PatchDiscriminator(width, options["hidden"], levels)

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Measure the scale of the features."""
        measure([self.net.scaling], ([patch_features(encoder, x, self.net.levels)] for x in pictures()))

    def loss(self, encoder: Encoder, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of "good" and "noisy" patches, focal loss of "drawn" ones."""
        blemished, masks = draw_defects(x, generator, LOOK)
        good, drawn = self.net.adapted(encoder, x), self.net.adapted(encoder, blemished)
        target = cells(masks, round(good.shape[1] ** 0.5)).flatten()
        good, drawn = good.flatten(0, 1), drawn.flatten(0, 1)
        noisy = good.detach() + gaussian(good, self.options["noise"], generator)
        away = truncated(self.climbed(good.detach(), noisy) - good.detach(), self.radius)
        judged = self.net.judge(torch.cat([good, good + away, drawn])).view(3, -1)
        parts = {
            "good": F.softplus(judged[0]).mean(),  # cross-entropy of a sigmoid: -log(1 - p)
            "noisy": F.softplus(-judged[1]).mean(),
            "drawn": binary_focal_loss(judged[2], target),
        }
        total = parts["good"] + parts["noisy"] + self.options["focal"] * parts["drawn"]
        return {"loss": total, **{name: part.detach() for name, part in parts.items()}}

    def climbed(self, good: Tensor, noisy: Tensor) -> Tensor:
        """Noisy features (N, D) after steps of a fixed length up the gradient of their cross-entropy."""
        length = self.options["ascent"] * self.radius
        for _ in range(self.options["ascents"]):
            noisy = noisy.detach().requires_grad_(True)
            judged = self.net.judge(torch.cat([good, noisy]))[len(good) :]
            (slope,) = torch.autograd.grad(F.softplus(-judged).sum(), noisy)
            noisy = noisy + length * F.normalize(slope, dim=1)
        return noisy.detach()

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,) and "distances" (B, h, w)."""
        return self.net.distances(encoder, x)


def truncated(away: Tensor, radius: float) -> Tensor:
    """Offsets (N, D) brought to a length from one to two radii, the direction kept: the truncated projection."""
    length: Tensor = away.norm(dim=1, keepdim=True)
    return away * (length.clamp(radius, 2 * radius) / length.clamp_min(torch.finfo(away.dtype).tiny))


def cells(masks: Tensor, side: int) -> Tensor:
    """Masks (B, 1, S, S) of 0 and 1 -> (B, side, side), 1 where a patch holds any defective pixel."""
    found: Tensor = F.adaptive_max_pool2d(masks, side)
    return found.squeeze(1)


HEADS = {"glass": GLASS}
OPTIONS = {"glass": Options}
