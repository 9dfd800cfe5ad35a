"""SimCLR (Chen, Kornblith, Norouzi, Hinton: A simple framework for contrastive learning, ICML 2020).

Near-copies of a part are never negatives of each other: pushing pictures of the same part apart is what keeps plain
SimCLR at chance on sets where most parts were photographed several times.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional

from ssl_defect.config import Settings
from ssl_defect.data.augment import Crop, random_blur, random_geometry, random_light, random_noise, to_float
from ssl_defect.nets.backbones import Encoder
from ssl_defect.pretrain.base import Facts, Method, gather, spread
from ssl_defect.train.plan import Batch


class Options(Settings):
    """Settings of SimCLR. The views keep what tells a good part from a defective one."""

    temperature: float = Field(0.2, gt=0, description="Of the softmax; lower looks harder at the closest negatives.")
    projection: int = Field(128, ge=2, description="Width of the projected embedding.")
    groups: Literal["mask", "ignore"] = Field(
        "mask", description="`mask`: near-copies are never negatives; `ignore`: as published, they are."
    )
    crop: tuple[float, float] = Field(
        (0.5, 1.0),
        description="Share of the area kept. From half on: a smaller crop often loses the part or its defect.",
    )
    flips: bool = Field(True, description="Mirror. Surfaces know no up and down; switch off where mirrored is wrong.")
    turns: bool = Field(True, description="Quarter turns, for the same reason.")
    brightness: float = Field(
        0.3, ge=0, description="Log-range of a factor: exposure varies, a defect does not with it."
    )
    contrast: float = Field(0.3, ge=0, description="Log-range of a factor about the mean.")
    gamma: float = Field(0.2, ge=0, description="Log-range of the exponent.")
    noise: float = Field(0.02, ge=0, description="Greatest standard deviation of sensor noise, of a range of 1.")
    blur: float = Field(0.0, ge=0, description="Greatest sigma in pixels. Off: blur hides hairline cracks.")


class SimCLR(Method):
    """Two views of each picture are to find each other among all views of the batch."""

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.head = nn.Sequential(
            nn.Linear(encoder.width, encoder.width, bias=False),
            nn.BatchNorm1d(encoder.width),
            nn.ReLU(inplace=True),
            nn.Linear(encoder.width, options.projection),
        )

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Loss, "agreement" (mean cosine of the two views) and "spread"."""
        return self.compare(self.views(to_float(batch["image"]).repeat(2, 1, 1, 1), batch["generator"]), batch["group"])

    def compare(self, views: Tensor, groups: Tensor) -> dict[str, Tensor]:
        """What `forward` returns, for ready views (2 B, C, S, S) of pictures in `groups` (B,)."""
        embedded = functional.normalize(self.head(self.encoder(views)).float(), dim=1)
        one, two = embedded.chunk(2)
        known = gather(groups) if self.options.groups == "mask" else None
        loss = nt_xent(gather(one), gather(two), known, self.options.temperature)
        return {"loss": loss, "agreement": (one * two).sum(dim=1).mean(), "spread": spread(embedded)}

    def views(self, images: Tensor, generator: Generator) -> Tensor:
        """One random view of each picture (B, C, S, S) in [0, 1]."""
        o = self.options
        crop = Crop(scale=o.crop, flips=o.flips, turns=o.turns)
        x = random_geometry(len(images), images.shape[-1], generator, crop).apply(images)
        x = random_light(x, generator, o.brightness, o.contrast, o.gamma)
        return random_noise(random_blur(x, generator, o.blur), generator, o.noise)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and two views of it: (B, 3, C, S, S)."""
        images = to_float(batch["image"])
        two = [self.views(images, batch["generator"]) for _ in range(2)]
        return torch.stack([images, *two], dim=1)


def nt_xent(one: Tensor, two: Tensor, groups: Tensor | None = None, temperature: float = 0.2) -> Tensor:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, eq. 1), mean over both views of all pictures.

    Args:
        one, two: embeddings (B, D) of the two views of each picture; they are L2-normalised here.
        groups: (B,) near-copies share a number and drop out of each other's denominator; negative: no group.
        temperature: divides the cosines, above 0.

    Returns:
        A scalar >= 0; log(2 B - 1) at chance where no groups are given.
    """
    count = len(one)
    with torch.autocast(one.device.type, enabled=False):
        unit = functional.normalize(torch.cat([one, two]), dim=1)
        logits = unit @ unit.T / temperature
    rows = torch.arange(2 * count, device=one.device)
    positive = (rows + count) % (2 * count)
    logits = logits.masked_fill(~_compared(rows, positive, groups), float("-inf"))
    return functional.cross_entropy(logits, positive)


def _compared(rows: Tensor, positive: Tensor, groups: Tensor | None) -> Tensor:
    """(2 B, 2 B) which pairs enter the softmax: all but a view with itself and with other pictures of its group."""
    compared = rows[:, None] != rows[None, :]
    if groups is not None:
        both = groups.repeat(2)
        compared &= (both[:, None] != both[None, :]) | (both < 0)[:, None]
        compared[rows, positive] = True
    return compared


METHOD = SimCLR
