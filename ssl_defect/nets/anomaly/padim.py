"""PaDiM, Defard et al. 2021 (arXiv:2011.08785): in every place a Gaussian of what good parts have there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ssl_defect.console import say
from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.base import AnomalyHead, Pictures
from ssl_defect.nets.anomaly.options import LevelOptions
from ssl_defect.nets.anomaly.patches import check_finite, levels_of, patch_features, patch_side, patch_width
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
        """Mean and covariance of every place, summed up batch by batch in double precision.

        Raises:
            UserError: there is one picture alone, or a feature is not a finite number.
        """
        draw = torch.Generator().manual_seed(seed)
        width = patch_width(encoder, self.levels)
        self.kept.copy_(torch.randperm(width, generator=draw)[: len(self.kept)].sort().values)
        places, count = self.means.shape
        total, products, seen = torch.zeros(places, count).double(), torch.zeros(places, count, count).double(), 0
        for x in pictures():
            values = self._patches(encoder, x)
            check_finite(values)
            values = values.cpu().double()
            total += values.sum(dim=1)
            products.baddbmm_(values.transpose(1, 2), values)
            seen += values.shape[1]
        check_enough(seen, count)
        means = total / seen
        self.means.copy_(means)
        spread = products.baddbmm_(means[:, :, None], means[:, None], alpha=-seen).div_(seen - 1)
        spread.diagonal(dim1=1, dim2=2).add_(RIDGE)
        # W with W^T W = C^-1: the distance is the length of W (x - mean)
        lower = torch.linalg.cholesky(spread)
        identity = torch.eye(count, dtype=torch.float64)
        for place, root in enumerate(lower):
            self.whitening[place] = torch.linalg.solve_triangular(root, identity, upper=False)

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,) and "distances" (B, h, w)."""
        values = self._patches(encoder, x) - self.means[:, None]
        distances = (values @ self.whitening.transpose(1, 2)).norm(dim=2).T
        side = round(distances.shape[1] ** 0.5)
        return {"distance": distances.amax(dim=1), "distances": distances.reshape(-1, side, side)}

    def _patches(self, encoder: Encoder, x: Tensor) -> Tensor:
        """(places, B, dimensions); contiguous, else their product with a matrix each goes place by place."""
        features = patch_features(encoder, x, self.levels)[:, self.kept]
        return features.flatten(2).permute(2, 0, 1).contiguous()


def check_enough(pictures: int, dimensions: int) -> None:
    """Refuse a single picture, and say where there are too few for a covariance of its own.

    Raises:
        UserError: there are fewer than 2.
    """
    if pictures < 2:
        raise UserError(f"anomaly: padim needs at least 2 good images, there is {pictures}; add some, or take knn")
    if pictures <= dimensions:
        say(
            f"anomaly: padim: {pictures} good images for {dimensions} dimensions; the covariance hangs on its ridge of "
            f"{RIDGE}, fewer anomaly.options.dimensions would be surer"
        )


HEADS = {"padim": PaDiM}
OPTIONS = {"padim": Options}
