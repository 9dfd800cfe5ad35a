"""PatchCore, Roth et al. 2022 (arXiv:2106.08265): a memory of patches of good parts, thinned to a coreset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ssl_defect.nets.anomaly.base import AnomalyHead, Pictures
from ssl_defect.nets.anomaly.coreset import coreset
from ssl_defect.nets.anomaly.options import LevelOptions
from ssl_defect.nets.anomaly.patches import levels_of, patch_features, patch_side, patch_width
from ssl_defect.nets.backbones import Encoder

BLOCK = 8192  # patches of the memory compared at a time, so that memory stays flat


class Options(LevelOptions):
    """Settings of PatchCore."""

    share: float = Field(0.1, gt=0, le=1, description="Share of the patches that the memory keeps.")
    neighbours: int = Field(9, ge=1, le=1000, description="Neighbours that weigh an image's score.")


class PatchCore(AnomalyHead):
    """Distance of every patch to the nearest of the memory.

    Options:
        strides: of the maps.
        share: of the patches that the memory keeps.
        neighbours: of the nearest patch in the memory, by which the image's score is weighed.
        memory: patches that it keeps (set by `measured`).
    """

    bank: Tensor

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.levels = levels_of(encoder, options["strides"])
        self.neighbours: int = options["neighbours"]
        width = patch_width(encoder, self.levels)
        self.register_buffer("bank", torch.zeros(options["memory"], width))

    @classmethod
    def measured(cls, encoder: Encoder, options: Mapping[str, Any], pictures: int) -> dict[str, int]:
        """The size of the memory."""
        patches = pictures * patch_side(encoder, levels_of(encoder, options["strides"])) ** 2
        return {"memory": max(1, round(options["share"] * patches))}

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Gather all patches, and keep a coreset."""
        parts = [patch_features(encoder, x, self.levels).flatten(2).transpose(1, 2).flatten(0, 1) for x in pictures()]
        patches = torch.cat([part.cpu() for part in parts]).numpy()
        chosen = coreset(patches, len(self.bank), seed)
        self.bank.copy_(torch.from_numpy(np.ascontiguousarray(patches[chosen])))

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,) of the picture, and "distances" (B, h, w)."""
        features = patch_features(encoder, x, self.levels)
        count, _, height, width = features.shape
        patches = features.flatten(2).transpose(1, 2)
        near, place = nearest(patches.flatten(0, 1), self.bank)
        near, place = near.view(count, -1), place.view(count, -1)
        return {"distance": self.weighed(patches, near, place), "distances": near.view(count, height, width)}

    def weighed(self, patches: Tensor, near: Tensor, place: Tensor) -> Tensor:
        """The image's score, equations 6 and 7: the farthest patch, less where its neighbours in memory are as far.

        Args:
            patches: (B, P, D).
            near: (B, P) distance of each to the nearest of the memory, which is `place` (B, P).
        """
        worst = near.argmax(dim=1, keepdim=True)
        distance = near.gather(1, worst)[:, 0]
        count = min(self.neighbours, len(self.bank))
        if count < 2:
            return distance
        patch = patches.gather(1, worst[..., None].expand(-1, -1, patches.shape[2]))[:, 0]
        around = torch.cdist(self.bank[place.gather(1, worst)[:, 0]], self.bank).topk(count, largest=False).indices
        distances = (patch[:, None] - self.bank[around]).norm(dim=2)
        distances[:, 0] = distance  # the nearest itself; where two are equal, topk may have put the other first
        weight: Tensor = 1 - distances.softmax(dim=1)[:, 0]
        return weight * distance


def nearest(queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance (Q,) of queries (Q, D) to the nearest of a bank (M, D), and which that is (Q,)."""
    best = torch.full((len(queries),), torch.inf, device=queries.device)
    place = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    norms = (queries * queries).sum(dim=1)
    for start in range(0, len(bank), BLOCK):
        block = bank[start : start + BLOCK]
        squares = torch.addmm((block * block).sum(dim=1), queries, block.T, alpha=-2)
        found, index = squares.min(dim=1)
        better = found < best
        best, place = torch.where(better, found, best), torch.where(better, index + start, place)
    return (best + norms).clamp_min(0).sqrt(), place


HEADS = {"patchcore": PatchCore}
OPTIONS = {"patchcore": Options}
