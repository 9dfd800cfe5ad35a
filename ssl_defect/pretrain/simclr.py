"""SimCLR (Chen, Kornblith, Norouzi, Hinton: A simple framework for contrastive learning, ICML 2020).

Near-copies of a part are never negatives of each other: pushing pictures of the same part apart is what keeps plain
SimCLR at chance on sets where most parts were photographed several times. They may be positives as well: then the
second view is of a near-copy, and all copies that the batch happens to hold are to agree (SupCon, Khosla et al. 2020,
with the group for a label).
"""

from __future__ import annotations

import math
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
    groups: Literal["mask", "positives", "ignore"] = Field(
        "mask",
        description="`mask`: near-copies are never negatives; `positives`: they are to agree as well, and the second "
        "view is of one; `ignore`: as published, they are negatives.",
    )


class SimCLR(Method):
    """Two views of each picture are to find each other among all views of the batch."""

    logs: ClassVar[dict[str, str]] = {"agreement": "mean cosine of the two views, in [-1, 1]"}
    strip: ClassVar[tuple[str, ...]] = ("picture", "one view", "another view")
    advice: ClassVar[str] = (
        "lower pretrain.learning_rate, raise pretrain.batch_size (it brings the negatives) or lengthen pretrain.warmup"
    )

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.partners = options.groups == "positives"
        self.chance = math.log(2 * facts.batch_size - 1)  # a little less where near-copies are no negatives
        self.head = mlp([encoder.width, encoder.width, options.projection])

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "pair" (B, 2, C, S, S) and "group" (B,)."""
        return {"pair": two_views(batch, self.options), "group": batch["group"]}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss, "agreement" (mean cosine of the two views) and "spread"."""
        embedded = functional.normalize(self.head(self.encoder(views["pair"].flatten(0, 1))).float(), dim=1)
        one, two = embedded[::2], embedded[1::2]
        known = None if self.options.groups == "ignore" else gather(views["group"])
        loss = nt_xent(gather(one), gather(two), known, self.options.temperature, self.partners)
        return {"loss": loss, "agreement": (one * two).sum(dim=1).mean(), "spread": spread(embedded)}

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and two views of it: (B, 3, C, S, S)."""
        return torch.cat([to_float(batch["image"]).unsqueeze(1), two_views(batch, self.options)], dim=1)


def nt_xent(
    one: Tensor, two: Tensor, groups: Tensor | None = None, temperature: float = 0.2, positives: bool = False
) -> Tensor:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, eq. 1), mean over both views of all pictures.

    With several positives an anchor's loss is the mean over them (Khosla et al. 2020, eq. 2). The other positives
    are left out of each one's denominator, where eq. 2 has them: there they would be pushed apart like negatives.

    Args:
        one, two: embeddings (B, D) of the two views of each picture; they are L2-normalised here.
        groups: (B,) near-copies share a number and are no negatives of each other; negative: no group.
        temperature: divides the cosines, above 0.
        positives: near-copies are positives, all with all, beside the two views of a picture.

    Returns:
        A scalar >= 0; log(2 B - 1) at chance where no groups are given.
    """
    with torch.autocast(one.device.type, enabled=False):
        unit = functional.normalize(torch.cat([one, two]), dim=1)
        logits = unit @ unit.T / temperature
    rows = torch.arange(2 * len(one), device=one.device)
    itself, mate = rows[:, None] == rows, rows.roll(len(one))
    alike = _alike(groups, rows % len(one))
    # finite, since a row may have no negatives at all, and the gradient through a sum of exp(-inf) is no number
    rest = logits.masked_fill(alike, -1e9).logsumexp(dim=1)
    if not positives:
        return functional.softplus(rest - logits[rows, mate]).mean()
    pulled = alike & ~itself
    each = functional.softplus(rest[:, None] - logits)  # -log of a positive's share beside the negatives
    return (each.where(pulled, 0.0).sum(dim=1) / pulled.sum(dim=1)).mean()


def _alike(groups: Tensor | None, picture: Tensor) -> Tensor:
    """(2 B, 2 B) which views are of one picture, or of one group of near-copies where `groups` (B,) is given."""
    alike = picture[:, None] == picture
    if groups is not None:
        both = groups[picture]
        alike |= (both[:, None] == both) & (both >= 0)[:, None]
    return alike


METHOD = SimCLR
