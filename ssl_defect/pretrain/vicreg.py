"""VICReg (Bardes, Ponce, LeCun: Variance-invariance-covariance regularization for self-supervised learning, ICLR 2022).

Two views agree (invariance) while each dimension of the embedding keeps its deviation over the batch (variance) and
says something that the others do not (covariance). It has no negatives, no target and no queue, and its three terms
tell what goes wrong when it does.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.projection import mlp
from ssl_defect.pretrain.base import Facts, Method, Views, gather, spread
from ssl_defect.pretrain.views import PartnerSettings, two_views
from ssl_defect.train.plan import Batch

RATIO = 4  # width of the embedding by pictures in the batch, as published: 8192 by 2048


class Options(PartnerSettings):
    """Settings of VICReg. The views keep what tells a good part from a defective one."""

    invariance: float = Field(25.0, ge=0, description="Weight of the distance of the two views, as published.")
    variance: float = Field(25.0, ge=0, description="Weight of the hinge on each dimension's deviation, as published.")
    covariance: float = Field(1.0, ge=0, description="Weight of the covariances, as published.")
    hidden: int = Field(
        1024,
        ge=2,
        description="Width of the first two of the expander's three layers. The paper's 8192 would be 70 million "
        "weights in one layer, twenty times a small backbone.",
    )
    embedding: int | None = Field(
        None,
        ge=2,
        description="Width of the embedding; left out, four times the batch, which is the paper's ratio (8192 by "
        "2048). B pictures span B - 1 dimensions: with a wider one the covariances are mostly chance, and they "
        "outweigh the variance.",
    )


class VICReg(Method):
    """Two views agree, and the dimensions of the embedding stay alive and apart."""

    logs: ClassVar[dict[str, str]] = {
        "invariance": "mean squared distance of the two views, 0 or more",
        "variance": "shortfall of the dimensions' deviations from 1, in [0, 1]; 1 is a collapse",
        "covariance": "sum of squared covariances per dimension, both views, 0 or more",
        "agreement": "mean cosine of the two views, in [-1, 1]",
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "one view", "another view")
    advice: ClassVar[str] = "raise pretrain.options.variance, lower pretrain.learning_rate or raise pretrain.batch_size"

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.partners = options.groups == "positives"
        width = options.embedding or RATIO * facts.batch_size
        self.expander = mlp([encoder.width, options.hidden, options.hidden, width])

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "pair" (B, 2, C, S, S), the second of a near-copy where the batch brings one."""
        return {"pair": two_views(batch, self.options)}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss (Bardes et al. 2022) and its terms, over the batch of all processes.

        As in the authors' code, and lightly's: eq. 6 has twice the variance, and D times the invariance.
        """
        embedded = self.expander(self.encoder(views["pair"].flatten(0, 1))).float()
        one, two = gather(embedded[::2]), gather(embedded[1::2])
        with torch.autocast(embedded.device.type, enabled=False):
            terms = {
                "invariance": functional.mse_loss(one, two),
                "variance": (variance_term(one) + variance_term(two)) / 2,
                "covariance": covariance_term(one) + covariance_term(two),
            }
        weights = {name: float(getattr(self.options, name)) for name in terms}
        return {
            "loss": torch.stack([weights[name] * term for name, term in terms.items()]).sum(),
            **{name: term.detach() for name, term in terms.items()},
            "agreement": functional.cosine_similarity(one.detach(), two.detach(), dim=1).mean(),
            "spread": spread(embedded),
        }

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and two views of it: (B, 3, C, S, S)."""
        return torch.cat([to_float(batch["image"]).unsqueeze(1), two_views(batch, self.options)], dim=1)


def variance_term(x: Tensor, target: float = 1.0, epsilon: float = 1e-4) -> Tensor:
    """Mean over the dimensions of max(0, target - deviation over the batch) (Bardes et al. 2022, eq. 1 and 2).

    Args:
        x: (B, D) embeddings, B of 2 or more.
        target: deviation that is enough.
        epsilon: added to the variance under the root, which has no slope at 0.

    Returns:
        A scalar in [0, target]: 0 where every dimension varies enough, about `target` where all rows are alike.
    """
    deviation = (x.var(dim=0) + epsilon).sqrt()
    return functional.relu(target - deviation).mean()


def covariance_term(x: Tensor) -> Tensor:
    """Sum of the squared covariances of different dimensions, over their number D (Bardes et al. 2022, eq. 3 and 4).

    Args:
        x: (B, D) embeddings, B of 2 or more.

    Returns:
        A scalar of 0 or more; 0 where no two dimensions vary together.
    """
    centred = x - x.mean(dim=0)
    covariance = centred.T @ centred / (len(x) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / x.shape[1]


METHOD = VICReg
