"""Isolation forest, Liu et al. 2008 (ICDM), on pooled features: grown by scikit-learn, kept as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ssl_defect.nets.anomaly.base import AnomalyHead, Pictures
from ssl_defect.nets.anomaly.options import Options as BaseOptions
from ssl_defect.nets.anomaly.scaling import require_finite, require_pictures
from ssl_defect.nets.backbones import Encoder

Nodes = dict[str, NDArray[Any]]


class Options(BaseOptions):
    """Settings of the isolation forest."""

    trees: int = Field(100, ge=1, le=10_000, description="Number of trees; the paper's.")
    samples: int = Field(256, ge=2, le=1_000_000, description="Good images that each tree is grown on; the paper's.")


class IsolationForest(AnomalyHead):
    """How few random cuts set a picture apart from the good ones.

    The distance is the paper's anomaly score `2^(-E[h(x)] / c(n))` (equation 2) in (0, 1], which is scikit-learn's
    `-score_samples`. Cuts lie uniformly between the least and greatest value of one feature, so that standardised
    features would give the same forest; they are taken as they come.

    Options:
        trees: number of trees.
        samples: good pictures that each is grown on, at most.
        drawn: how many there are for each (set by `measured`).
    """

    branches: Tensor
    feature: Tensor
    threshold: Tensor
    length: Tensor

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.drawn: int = options["drawn"]
        shape = (options["trees"], 2 * self.drawn - 1)
        self.register_buffer("branches", torch.zeros(*shape, 2, dtype=torch.int64))
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(shape))
        self.register_buffer("length", torch.zeros(shape))

    @classmethod
    def measured(cls, encoder: Encoder, options: Mapping[str, Any], pictures: int) -> dict[str, int]:
        """How many pictures each tree is grown on.

        Raises:
            UserError: there are fewer than 2 good ones.
        """
        require_pictures(options["detector"], pictures)
        return {"drawn": min(options["samples"], pictures)}

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Grow the trees."""
        from sklearn import ensemble

        features = require_finite(torch.cat([encoder(x).float().cpu() for x in pictures()]))
        forest = ensemble.IsolationForest(
            n_estimators=self.options["trees"], max_samples=self.drawn, random_state=seed
        ).fit(features.numpy())
        for number, tree in enumerate(forest.estimators_):
            for name, values in nodes_of(tree.tree_).items():
                getattr(self, name)[number, : len(values)] = torch.from_numpy(values).to(getattr(self, name).device)

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,)."""
        return {"distance": self.isolation(encoder(x).float())}

    def isolation(self, features: Tensor) -> Tensor:
        """The paper's anomaly score (B,) of features (B, width); NaN where one of them is."""
        trees = torch.arange(len(self.feature), device=features.device)
        node = trees.new_zeros(len(features), len(trees))
        for _ in range(math.ceil(math.log2(self.drawn))):  # no tree is deeper; a leaf leads to itself
            right = features.gather(1, self.feature[trees, node]) > self.threshold[trees, node]
            node = self.branches[trees, node, right.long()]
        score = 2 ** (-self.length[trees, node].mean(dim=1) / float(path_length(np.array(self.drawn))))
        return torch.where(features.isfinite().all(dim=1), score, torch.nan)


def nodes_of(tree: Any) -> Nodes:
    """Of a scikit-learn tree of N nodes: "branches" (N, 2), "feature", "threshold" and "length" (N,) of the path.

    Those of a leaf are itself. Thresholds are rounded down to float32, so that a float32 feature lies below
    one exactly where it lies below the original. The length holds the cuts still to be expected in a leaf of several.
    """
    leaf = tree.children_left < 0
    places = np.arange(tree.node_count)
    children = np.where(leaf[:, None], places[:, None], np.stack([tree.children_left, tree.children_right], axis=1))
    threshold = tree.threshold.astype(np.float32)
    threshold = np.where(threshold > tree.threshold, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    depth = np.zeros(tree.node_count)
    for place in places[~leaf]:  # parents come before their children
        depth[children[place]] = depth[place] + 1
    return {
        "branches": children.astype(np.int64),
        "feature": np.where(leaf, 0, tree.feature).astype(np.int64),
        "threshold": threshold.astype(np.float32),
        "length": (depth + path_length(tree.n_node_samples)).astype(np.float32),
    }


def path_length(count: NDArray[Any]) -> NDArray[np.float64]:
    """c(n), Liu et al. 2008, equation 1: mean length of an unsuccessful search among n, 0 for one and 1 for two."""
    several = np.maximum(count, 3).astype(np.float64)
    mean = 2 * (np.log(several - 1) + np.euler_gamma) - 2 * (several - 1) / several
    return np.where(count > 2, mean, np.where(count == 2, 1.0, 0.0))


HEADS = {"isolation_forest": IsolationForest}
OPTIONS = {"isolation_forest": Options}
