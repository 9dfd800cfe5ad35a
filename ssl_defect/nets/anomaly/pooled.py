"""Detectors on pooled features: a score for the image, and no map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ssl_defect.nets.anomaly.base import AnomalyHead, Pictures
from ssl_defect.nets.anomaly.options import Options
from ssl_defect.nets.backbones import Encoder


class Gaussian(AnomalyHead):
    """Mahalanobis distance to one Gaussian of the pooled features, as CutPaste has it (Li et al. 2021, section 2.3).

    The covariance is shrunk (Ledoit and Wolf 2004): a plain one of more features than pictures has no inverse.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.register_buffer("mean", torch.zeros(encoder.width))
        self.register_buffer("whitening", torch.zeros(encoder.width, encoder.width))

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Mean and shrunk covariance."""
        from sklearn.covariance import LedoitWolf

        found = LedoitWolf().fit(_pooled(encoder, pictures).double().numpy())
        self.mean.copy_(torch.from_numpy(found.location_))
        lower = torch.linalg.cholesky(torch.from_numpy(found.covariance_))
        identity = torch.eye(len(lower), dtype=torch.float64)
        self.whitening.copy_(torch.linalg.solve_triangular(lower, identity, upper=False))

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,)."""
        return {"distance": ((encoder(x).float() - self.mean) @ self.whitening.T).norm(dim=1)}


class NeighbourOptions(Options):
    """Settings of the nearest neighbours."""

    neighbours: int = Field(9, ge=1, le=1000, description="Nearest good images whose mean distance is the score.")


class NearestNeighbours(AnomalyHead):
    """Mean distance to the nearest good pictures, features of unit length about their mean.

    Options:
        neighbours: how many.
        memory: good pictures (set by `measured`).
    """

    mean: Tensor
    bank: Tensor

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.neighbours: int = options["neighbours"]
        self.register_buffer("mean", torch.zeros(encoder.width))
        self.register_buffer("bank", torch.zeros(options["memory"], encoder.width))

    @classmethod
    def measured(cls, encoder: Encoder, options: Mapping[str, Any], pictures: int) -> dict[str, int]:
        """All good pictures are kept."""
        return {"memory": pictures}

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Keep all."""
        features = _pooled(encoder, pictures)
        self.mean.copy_(features.mean(dim=0))
        self.bank.copy_(self._unit(features.to(self.mean.device)))

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,)."""
        distances = torch.cdist(self._unit(encoder(x).float()), self.bank)
        count = min(self.neighbours, len(self.bank))
        return {"distance": distances.topk(count, dim=1, largest=False).values.mean(dim=1)}

    def _unit(self, features: Tensor) -> Tensor:
        return torch.nn.functional.normalize(features - self.mean, dim=1)


def _pooled(encoder: Encoder, pictures: Pictures) -> Tensor:
    """Features (N, width) on the CPU."""
    return torch.cat([encoder(x).float().cpu() for x in pictures()])


HEADS = {"gaussian": Gaussian, "knn": NearestNeighbours}
OPTIONS = {"gaussian": Options, "knn": NeighbourOptions}
