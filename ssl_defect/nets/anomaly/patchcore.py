"""PatchCore, Roth et al. 2022 (arXiv:2106.08265): a memory of patches of good parts, thinned to a coreset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ssl_defect.nets.anomaly.base import AnomalyHead, Pictures
from ssl_defect.nets.anomaly.coreset import Points, Rows, coreset, projected
from ssl_defect.nets.anomaly.options import LevelOptions
from ssl_defect.nets.anomaly.patches import check_finite, levels_of, patch_features, patch_side, patch_width
from ssl_defect.nets.anomaly.search import Cells, cells_for, divide, nearest, nearest_in_cells, neighbours
from ssl_defect.nets.backbones import Encoder

SMALL = 4096  # patches of a memory, up to which all are compared
FARTHEST = 16  # patches of a picture that are looked for again in more cells: one of them makes its score
WIDER = 4  # times as many cells


class Options(LevelOptions):
    """Settings of PatchCore."""

    share: float = Field(0.1, gt=0, le=1, description="Share of the patches that the memory keeps.")
    neighbours: int = Field(9, ge=1, le=1000, description="Neighbours that weigh an image's score.")
    search: Literal["auto", "exact", "cells"] = Field(
        "auto",
        description="Of the memory: `exact` compares a patch with all of it, `cells` with the cells of k-means nearest "
        "to it; `auto` takes cells on a CPU where the memory has more than 4096 patches.",
    )
    probes: int = Field(3, ge=1, le=10_000, description="Cells that a patch looks at, where the search is by cells.")


class PatchCore(AnomalyHead):
    """Distance of every patch to the nearest of the memory.

    Options:
        strides: of the maps.
        share: of the patches that the memory keeps.
        neighbours: of the nearest patch in the memory, by which the image's score is weighed.
        search, probes: how the nearest is looked for, see `Options`.
        memory, cells: patches that it keeps, and cells that divide them (set by `measured`).
    """

    bank: Tensor
    squares: Tensor
    centres: Tensor
    edges: Tensor

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.levels = levels_of(encoder, options["strides"])
        self.neighbours: int = options["neighbours"]
        self.search: str = options["search"]
        self.probes: int = options["probes"]
        width, memory, cells = patch_width(encoder, self.levels), options["memory"], options["cells"]
        self.register_buffer("bank", torch.zeros(memory, width))
        self.register_buffer("squares", torch.zeros(memory, 1))
        self.register_buffer("centres", torch.zeros(cells, width))
        self.register_buffer("edges", torch.zeros(cells + 1, dtype=torch.int64))

    @classmethod
    def measured(cls, encoder: Encoder, options: Mapping[str, Any], pictures: int) -> dict[str, int]:
        """The size of the memory, and the number of its cells."""
        patches = pictures * patch_side(encoder, levels_of(encoder, options["strides"])) ** 2
        memory = max(1, round(options["share"] * patches))
        whole = options["search"] == "exact" or (options["search"] == "auto" and memory <= SMALL)
        return {"memory": memory, "cells": 1 if whole else cells_for(memory)}

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Gather all patches, keep a coreset, and divide it into cells.

        Raises:
            UserError: a feature is not a finite number.
        """
        parts = []
        for x in pictures():
            part = patch_features(encoder, x, self.levels).permute(0, 2, 3, 1).flatten(0, 2)
            check_finite(part)
            parts.append(part.cpu().numpy())
        # never joined: the memory of a second copy of all patches is saved
        near = np.concatenate([projected(part, seed) for part in parts])
        self._remember(rows_of(parts, coreset(near, len(self.bank), seed)), seed)

    def _remember(self, patches: Points, seed: int) -> None:
        if len(self.centres) == 1:
            labels, centres = np.zeros(len(patches), np.int64), patches.mean(axis=0, keepdims=True)
        else:
            labels, centres = divide(patches, len(self.centres), seed)
        self.bank.copy_(torch.from_numpy(patches[np.argsort(labels, kind="stable")]))
        self.squares.copy_(self.bank.square().sum(dim=1, keepdim=True))
        self.centres.copy_(torch.from_numpy(centres))
        sizes = np.bincount(labels, minlength=len(self.centres))
        self.edges.copy_(torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])))

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,) of the picture, and "distances" (B, h, w)."""
        features = patch_features(encoder, x, self.levels).permute(0, 2, 3, 1)
        count, height, width, _ = features.shape
        patches = features.flatten(1, 2)
        near, place = (found.view(count, -1) for found in self._nearest(patches.flatten(0, 1), self.probes))
        if self.by_cells:
            near, place = self._again(patches, near, place)
        return {"distance": self.weighed(patches, near, place), "distances": near.view(count, height, width)}

    @property
    def by_cells(self) -> bool:
        """Whether a patch is compared with some cells alone."""
        divided = len(self.centres) > 1
        return divided and (self.search == "cells" or (self.search == "auto" and self.bank.device.type == "cpu"))

    @property
    def memory(self) -> Cells:
        """What is searched."""
        return Cells(self.bank, self.squares, self.centres, self.edges)

    def _nearest(self, queries: Tensor, probes: int) -> tuple[Tensor, Tensor]:
        return nearest_in_cells(queries, self.memory, probes) if self.by_cells else nearest(queries, self.bank)

    def _again(self, patches: Tensor, near: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` found (B, P), that of each picture's farthest patches put right by more cells."""
        far = near.topk(min(FARTHEST, near.shape[1]), dim=1).indices
        queries = patches.gather(1, far[..., None].expand(-1, -1, patches.shape[2])).flatten(0, 1)
        distance, index = self._nearest(queries, WIDER * self.probes)
        return near.scatter(1, far, distance.view_as(far)), place.scatter(1, far, index.view_as(far))

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
        around = self._around(self.bank[place.gather(1, worst)[:, 0]], count)
        distances = (patch[:, None] - self.bank[around]).norm(dim=2)
        distances[:, 0] = distance  # the nearest itself; where two are equal, topk may have put the other first
        weight: Tensor = 1 - distances.softmax(dim=1)[:, 0]
        return weight * distance

    def _around(self, points: Tensor, count: int) -> Tensor:
        """(B, count) rows of the memory nearest to its points (B, D)."""
        if self.by_cells:
            return neighbours(points, self.memory, count, WIDER * self.probes)
        return torch.cdist(points, self.bank).topk(count, largest=False).indices


def rows_of(parts: Sequence[Points], rows: Rows) -> Points:
    """Rows, ascending, (M,) of parts (N_i, D) as if these were joined."""
    edges = np.cumsum([0, *(len(part) for part in parts)])
    cuts = np.searchsorted(rows, edges)
    return np.concatenate([part[rows[cuts[i] : cuts[i + 1]] - edges[i]] for i, part in enumerate(parts)])


HEADS = {"patchcore": PatchCore}
OPTIONS = {"patchcore": Options}
