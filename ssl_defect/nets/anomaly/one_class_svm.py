"""One-class SVM, Schoelkopf et al. 2001, on pooled features: fitted by scikit-learn, kept as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ssl_defect.nets.anomaly.base import AnomalyHead, Pictures
from ssl_defect.nets.anomaly.options import Options as BaseOptions
from ssl_defect.nets.anomaly.scaling import Scaling, measure, require_pictures
from ssl_defect.nets.backbones import Encoder


class Options(BaseOptions):
    """Settings of the one-class SVM."""

    nu: float = Field(0.1, gt=0, lt=1, description="Greatest share of the good images that are left outside.")
    gamma: float | None = Field(
        None, gt=0, description="Of the kernel exp(-gamma d^2) on standardised features; null for 1 / features."
    )


class OneClassSVM(AnomalyHead):
    """How far outside of a region that holds all but a share `nu` of the good pictures.

    With support vectors v_i, their weights a_i and the kernel k, scikit-learn's decision function is
    `sum_i a_i k(v_i, x) - rho`, high for good ones. The distance is `sqrt(-log(sum_i a_i k(v_i, x) / sum_i a_i) /
    gamma)`, a falling function of it in deviations of the features: of one support vector it is the Euclidean
    distance. Far away, where all kernels vanish and the decision function is flat, it still rises.

    Options:
        nu: greatest share of good pictures outside.
        gamma: of the kernel, or None.
        memory: support vectors at most, the number of good pictures (set by `measured`).
    """

    support: Tensor
    weights: Tensor
    offset: Tensor

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.gamma: float = options["gamma"] or 1 / encoder.width
        self.scaling = Scaling(encoder.width)
        self.register_buffer("support", torch.zeros(options["memory"], encoder.width))
        self.register_buffer("weights", torch.zeros(options["memory"]))
        self.register_buffer("offset", torch.zeros(()))

    @classmethod
    def measured(cls, encoder: Encoder, options: Mapping[str, Any], pictures: int) -> dict[str, int]:
        """Room for all good pictures.

        Raises:
            UserError: there are fewer than 2.
        """
        require_pictures(options["detector"], pictures)
        return {"memory": pictures}

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Support vectors, their weights and the offset."""
        from sklearn import svm

        features = torch.cat([encoder(x).float() for x in pictures()])
        measure([self.scaling], [[features]])
        found = svm.OneClassSVM(nu=self.options["nu"], gamma=self.gamma).fit(self.scaling(features).cpu().numpy())
        count = len(found.support_vectors_)
        self.support[:count] = torch.from_numpy(found.support_vectors_).to(self.support)
        self.weights[:count] = torch.from_numpy(found.dual_coef_[0]).to(self.weights)
        self.offset.fill_(float(found.offset_[0]))

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,)."""
        logarithm = self.log_sum(self.scaling(encoder(x))) - self.weights.sum().log()
        return {"distance": (-logarithm / self.gamma).clamp_min(0).sqrt()}

    def log_sum(self, features: Tensor) -> Tensor:
        """`log sum_i a_i k(v_i, x)` (B,) of standardised features (B, width)."""
        # not as a product of matrices, which rounds small distances away
        apart = torch.cdist(features, self.support, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.logsumexp(self.weights.log() - self.gamma * apart.square(), dim=1)

    def decision(self, features: Tensor) -> Tensor:
        """scikit-learn's decision function (B,) of standardised features (B, width)."""
        return self.log_sum(features).exp() - self.offset


HEADS = {"one_class_svm": OneClassSVM}
OPTIONS = {"one_class_svm": Options}
