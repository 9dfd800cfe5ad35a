"""PaDiM, Defard et al. 2021 (arXiv:2011.08785): in every place a Gaussian of what good parts have there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ssl_defect.nets.anomaly.base import AnomalyHead, Pictures
from ssl_defect.nets.anomaly.options import LevelOptions
from ssl_defect.nets.anomaly.patches import levels_of, patch_features, patch_side, patch_width
from ssl_defect.nets.backbones import Encoder

RIDGE = 0.01  # on the diagonal of every covariance, section III.B


class Options(LevelOptions):
    """Settings of PaDiM."""

    dimensions: int = Field(100, ge=1, le=2048, description="Channels, drawn at random, that are kept.")


class PaDiM(AnomalyHead):
    """Mahalanobis distance of every patch to the Gaussian of its place; the image's score is the largest.

    Options:
        strides: of the maps.
        dimensions: channels, drawn at random, that are kept.
    """

    kept: Tensor
    means: Tensor
    whitening: Tensor

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.levels = levels_of(encoder, options["strides"])
        width, places = patch_width(encoder, self.levels), patch_side(encoder, self.levels) ** 2
        count = min(options["dimensions"], width)
        self.register_buffer("kept", torch.arange(count))
        self.register_buffer("means", torch.zeros(places, count))
        self.register_buffer("whitening", torch.zeros(places, count, count))

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Mean and covariance of every place, summed up batch by batch in double precision."""
        draw = torch.Generator().manual_seed(seed)
        width = patch_width(encoder, self.levels)
        self.kept.copy_(torch.randperm(width, generator=draw)[: len(self.kept)].sort().values)
        places, count = self.means.shape
        total, products, seen = torch.zeros(places, count).double(), torch.zeros(places, count, count).double(), 0
        for x in pictures():
            values = self._patches(encoder, x).cpu().double()
            total += values.sum(dim=1)
            products += values.transpose(1, 2) @ values
            seen += values.shape[1]
        means = total / seen
        spread = (products - seen * means[:, :, None] * means[:, None]) / max(seen - 1, 1)
        spread += RIDGE * torch.eye(count, dtype=torch.float64)
        self.means.copy_(means)
        # W with W^T W = C^-1: the distance is the length of W (x - mean)
        lower = torch.linalg.cholesky(spread)
        identity = torch.eye(count, dtype=torch.float64).expand(places, -1, -1)
        self.whitening.copy_(torch.linalg.solve_triangular(lower, identity, upper=False))

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,) and "distances" (B, h, w)."""
        values = self._patches(encoder, x) - self.means[:, None]
        distances = (values @ self.whitening.transpose(1, 2)).norm(dim=2).T
        side = round(distances.shape[1] ** 0.5)
        return {"distance": distances.amax(dim=1), "distances": distances.reshape(-1, side, side)}

    def _patches(self, encoder: Encoder, x: Tensor) -> Tensor:
        """(places, B, dimensions)."""
        features = patch_features(encoder, x, self.levels)[:, self.kept]
        return features.flatten(2).permute(2, 0, 1)


HEADS = {"padim": PaDiM}
OPTIONS = {"padim": Options}
