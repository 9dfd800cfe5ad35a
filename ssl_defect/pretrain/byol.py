"""BYOL (Grill, Strub, Altche et al.: Bootstrap your own latent, a new approach to self-supervised learning, 2020).

It has no negatives, so near-copies of a part are never pushed apart, and it works with small batches. What keeps it
from the constant solution is the predictor together with the slow target; the spread of the embeddings shows whether
it does.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.momentum import follow, follower, rising_momentum
from ssl_defect.nets.projection import mlp
from ssl_defect.pretrain.base import Facts, Method, Views, spread
from ssl_defect.pretrain.views import PartnerSettings, two_views
from ssl_defect.train.plan import Batch


class Options(PartnerSettings):
    """Settings of BYOL. The views keep what tells a good part from a defective one."""

    momentum: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="Of the target at the start; it rises to 1. 0.99 is the paper's for its shorter schedules: with "
        "0.996 a target would still be near its random start when a small set is through.",
    )
    projection: int = Field(256, ge=2, description="Width of the projected embedding, as published.")
    hidden: int = Field(
        1024,
        ge=2,
        description="Width between the layers of projector and predictor; the paper's 4096 belong to a ResNet-50 and "
        "would outweigh the small backbones that industrial sets call for.",
    )


class BYOL(Method):
    """From one view of a picture the network predicts what its own moving average makes of the other view."""

    logs: ClassVar[dict[str, str]] = {
        "agreement": "mean cosine of the embeddings of the two views, in [-1, 1]; near 1 it is good only while the "
        "spread stays up",
        "momentum": "of the target, in [0, 1]; rises to 1",
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "one view", "another view")
    advice: ClassVar[str] = (
        "lower pretrain.learning_rate, raise pretrain.options.momentum towards 1 or raise pretrain.batch_size"
    )

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.partners = options.groups == "positives"
        self.projector = mlp([encoder.width, options.hidden, options.projection])
        self.predictor: nn.Module = mlp([options.projection, options.hidden, options.projection])
        self.target = follower(nn.Sequential(encoder, self.projector))

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "pair" (B, 2, C, S, S), the second of a near-copy where the batch brings one."""
        return {"pair": two_views(batch, self.options)}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss, symmetric in the two views, and the `logs`."""
        pair = views["pair"].flatten(0, 1)
        embedded = self.projector(self.encoder(pair))
        with torch.no_grad():
            aim = self.target(pair)
        other = aim.view(-1, 2, aim.shape[1]).flip(1).flatten(0, 1)
        unit = functional.normalize(embedded.detach().float(), dim=1)
        return {
            "loss": regression_loss(self.predictor(embedded).float(), other.float()),
            "agreement": (unit[::2] * unit[1::2]).sum(dim=1).mean(),
            "momentum": unit.new_tensor(rising_momentum(self.options.momentum, progress)),
            "spread": spread(embedded),
        }

    def after_step(self, progress: float) -> None:
        """The target follows the network."""
        online = nn.Sequential(self.encoder, self.projector)
        follow(self.target, online, rising_momentum(self.options.momentum, progress))

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and two views of it: (B, 3, C, S, S)."""
        return torch.cat([to_float(batch["image"]).unsqueeze(1), two_views(batch, self.options)], dim=1)


def regression_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of L2-normalised rows, 2 - 2 cos (Grill et al. 2020, eq. 2), mean over the rows.

    The paper adds up the losses of its two views; here they are rows like any other, so the mean is half that sum.

    Args:
        predicted, target: (N, D); no gradient flows into the target.

    Returns:
        A scalar in [0, 4]: 0 where all agree, 2 at chance.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        cosine = functional.cosine_similarity(predicted, target.detach(), dim=1)
    return (2 - 2 * cosine).mean()


METHOD = BYOL
