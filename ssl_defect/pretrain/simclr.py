"""SimCLR (Chen, Kornblith, Norouzi, Hinton: A simple framework for contrastive learning, ICML 2020).

Near-copies of a part are never negatives of each other: pushing pictures of the same part apart is what keeps plain
SimCLR at chance on sets where most parts were photographed several times.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.projection import mlp
from ssl_defect.pretrain.base import Facts, Method, Views, gather, spread
from ssl_defect.pretrain.views import ViewSettings, two_views
from ssl_defect.train.plan import Batch


class Options(ViewSettings):
    """Settings of SimCLR. The views keep what tells a good part from a defective one."""

    temperature: float = Field(0.2, gt=0, description="Of the softmax; lower looks harder at the closest negatives.")
    projection: int = Field(128, ge=2, description="Width of the projected embedding.")
    groups: Literal["mask", "ignore"] = Field(
        "mask", description="`mask`: near-copies are never negatives; `ignore`: as published, they are."
    )


class SimCLR(Method):
    """Two views of each picture are to find each other among all views of the batch."""

    logs: ClassVar[dict[str, str]] = {"agreement": "mean cosine of the two views, in [-1, 1]"}
    strip: ClassVar[tuple[str, ...]] = ("picture", "one view", "another view")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.head = mlp([encoder.width, encoder.width, options.projection])

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "pair" (B, 2, C, S, S) and "group" (B,)."""
        return {"pair": two_views(batch, self.options), "group": batch["group"]}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss, "agreement" (mean cosine of the two views) and "spread"."""
        embedded = functional.normalize(self.head(self.encoder(views["pair"].flatten(0, 1))).float(), dim=1)
        one, two = embedded[::2], embedded[1::2]
        known = gather(views["group"]) if self.options.groups == "mask" else None
        loss = nt_xent(gather(one), gather(two), known, self.options.temperature)
        return {"loss": loss, "agreement": (one * two).sum(dim=1).mean(), "spread": spread(embedded)}

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and two views of it: (B, 3, C, S, S)."""
        return torch.cat([to_float(batch["image"]).unsqueeze(1), two_views(batch, self.options)], dim=1)


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
