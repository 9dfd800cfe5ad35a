"""SimpleNet, Liu et al. 2023 (CVPR, arXiv:2303.15197): good features of patches against the same with noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ssl_defect.nets.anomaly.base import Pictures
from ssl_defect.nets.anomaly.discriminator import PatchDiscriminator, gaussian
from ssl_defect.nets.anomaly.options import LevelOptions, TrainedOptions
from ssl_defect.nets.anomaly.patches import levels_of, patch_features, patch_width
from ssl_defect.nets.anomaly.scaling import measure
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.backbones import Encoder


class Options(LevelOptions, TrainedOptions):
    """Settings of SimpleNet."""

    noise: float = Field(
        0.5,
        gt=0,
        le=10,
        description="Standard deviation of the noise, where each feature has 1 over all good patches. The paper's "
        "0.015 is for features as they come, of one backbone.",
    )
    margin: float = Field(0.5, gt=0, le=10, description="Beyond it nothing more is learnt from a patch; as published.")
    hidden: int = Field(256, ge=1, le=4096, description="Width of the discriminator; published 1024 for 1536 features.")
    weight_decay: float = Field(1e-5, ge=0, le=1, description="AdamW; as published.")


class SimpleNet(TrainedHead):
    """A discriminator of adapted features and the same plus Gaussian noise, by a truncated L1 loss.

    A patch's distance is `softplus(-D)` of the discriminator's output D, which keeps the order of the paper's score
    -D; the image's is the largest (section 3.6). Other than published, the features come at unit scale, so
    that `noise` means the same for every encoder, and adaptor and discriminator share one learning rate.

    Noise reaches all directions alike. A defect that moves features only the way good patches vary together, such as
    a change of brightness under an untrained encoder, is not told apart by it; `glass` adds drawn defects for that.

    Options:
        strides: of the maps.
        noise: standard deviation, in deviations of a feature.
        margin: of the loss, on both sides of 0.
        hidden: width of the discriminator.
    """

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.noise: float = options["noise"]
        self.margin: float = options["margin"]
        levels = levels_of(encoder, options["strides"])
        self.net = PatchDiscriminator(patch_width(encoder, levels), options["hidden"], levels)

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Measure the scale of the features."""
        measure([self.net.scaling], ([patch_features(encoder, x, self.net.levels)] for x in pictures()))

    def loss(self, encoder: Encoder, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Truncated L1; its two parts are "good" and "noisy"."""
        good = self.net.adapted(encoder, x).flatten(0, 1)
        noisy = good + gaussian(good, self.noise, generator)
        judged = self.net.judge(torch.cat([good, noisy]))
        # what is judged is high for anomalies, the paper's D is low
        good_part, noisy_part = truncated_l1(-judged[: len(good)], -judged[len(good) :], self.margin)
        return {"loss": good_part + noisy_part, "good": good_part.detach(), "noisy": noisy_part.detach()}

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,) and "distances" (B, h, w)."""
        return self.net.distances(encoder, x)


def truncated_l1(good: Tensor, noisy: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """`mean max(0, margin - D(good))` and `mean max(0, margin + D(noisy))`, Liu et al. 2023, section 3.5.

    Args:
        good, noisy: outputs D (N,) of the discriminator, high is good.
    """
    return (margin - good).clamp_min(0).mean(), (margin + noisy).clamp_min(0).mean()


HEADS = {"simplenet": SimpleNet}
OPTIONS = {"simplenet": Options}
