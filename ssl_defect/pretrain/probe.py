"""The online probes: how well frozen features tell a defective validation image, by neighbours and by one plane."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.data.store import Store
from ssl_defect.nets.backbones import Encoder
from ssl_defect.pretrain.base import spread
from ssl_defect.pretrain.rank import effective_rank
from ssl_defect.train.batches import Batches, Rows
from ssl_defect.train.seeds import mixed_seed

METRIC = "kNN AUROC on validation"
LINEAR_METRIC = "linear AUROC on validation"
TEMPERATURE = 0.07  # of the weights of neighbours: Wu et al. 2018, section 3.4
STRENGTH = 1e-3  # C of the linear probe: of 0.1 to 0.0001 the best on most untrained and ImageNet encoders
BANK, QUERIES = 1000, 500  # images at most, a fixed choice, so that a probe stays a small part of an epoch


@dataclass(frozen=True)
class Seen:
    """Pooled features of the probe's training images, (N, width), and of its validation images, (Q, width)."""

    bank: Tensor
    queries: Tensor


class Probe:
    """Probes of an encoder, measured on the same images each time; the test images are never looked at.

    Attributes:
        bank: rows of training images.
        queries: rows of validation images.
        k: neighbours that vote.
    """

    def __init__(self, store: Store, fabric: Fabric, k: int = 20) -> None:
        self.fabric, self.store = fabric, store
        self.bank, self.queries = (
            _choose(store.rows(split), most) for split, most in (("train", BANK), ("val", QUERIES))
        )
        self.k = max(1, min(k, len(self.bank) // 2))

    def measure(self, encoder: Encoder) -> dict[str, float | None]:
        """Probe the encoder as it stands: `judge` what it sees."""
        return self.judge(self.look(encoder))

    def look(self, encoder: Encoder) -> Seen:
        """The features that the encoder gives as it stands."""
        return Seen(self.features(encoder, self.bank), self.features(encoder, self.queries))

    def judge(self, seen: Seen) -> dict[str, float | None]:
        """What the features are worth.

        Returns:
            "auroc" of the nearest neighbours and "linear", that of the linear probe, in [0, 1]: None where
            validation has images of one class only, the second also where training has. Of the training images'
            features "rank", RankMe in [1, min(N, width)], and "spread".
        """
        truth = self.store.labels[self.queries]
        both = 0 < truth.sum() < len(truth)
        return {
            "auroc": float(roc_auc_score(truth, self._neighbours(seen))) if both else None,
            "linear": self._linear(seen, truth) if both else None,
            "rank": effective_rank(seen.bank),
            "spread": float(spread(seen.bank)),
        }

    def _neighbours(self, seen: Seen) -> Tensor:
        labels, groups = torch.from_numpy(self.store.labels), torch.from_numpy(self.store.groups)
        copies = groups[self.queries][:, None] == groups[self.bank][None, :]
        copies &= (groups[self.queries] >= 0)[:, None]
        return neighbour_scores(seen.bank, labels[self.bank], seen.queries, self.k, copies)

    def _linear(self, seen: Seen, truth: Rows) -> float | None:
        """None where what is left without near-copies of validation images (a random split has some) is one class."""
        groups = self.store.groups
        kept = (groups[self.bank] < 0) | ~np.isin(groups[self.bank], groups[self.queries])
        labels = self.store.labels[self.bank][kept]
        if not 0 < labels.sum() < len(labels):
            return None
        return float(roc_auc_score(truth, linear_scores(seen.bank[kept], labels, seen.queries)))

    @torch.inference_mode()
    def features(self, encoder: Encoder, rows: Rows, batch: int = 128) -> Tensor:
        """Pooled features (len(rows), width) in evaluation mode, on the CPU."""
        training = encoder.training
        encoder.eval()
        reader = Batches(self.store, rows, batch, 0, self.fabric.device)
        parts = []
        with self.fabric.autocast():
            for start in range(0, len(rows), batch):
                images = reader.gather(rows[start : start + batch])["image"].to(self.fabric.device)
                parts.append(encoder(to_float(images)).float().cpu())
        encoder.train(training)
        return torch.cat(parts) if parts else torch.empty(0, encoder.width)


def neighbour_scores(bank: Tensor, labels: Tensor, queries: Tensor, k: int, excluded: Tensor | None = None) -> Tensor:
    """How defective each query looks (Q,) by its k nearest neighbours under the cosine; higher = more defective.

    Where the bank holds both classes: the share of defective neighbours, in [0, 1], weighted by
    exp(cosine / 0.07) (Wu, Xiong, Yu, Lin 2018, eq. 12). Where it holds good images alone: minus the mean cosine.
    Features are centred on the bank first: pooled features share a large offset that makes all cosines alike.

    Args:
        bank: (N, D) features.
        labels: (N,) 0 or 1.
        queries: (Q, D) features.
        k: number of neighbours.
        excluded: (Q, N) bool, pairs that must not count (near-copies).
    """
    centre = bank.mean(dim=0)
    cosine = functional.normalize(queries - centre, dim=1) @ functional.normalize(bank - centre, dim=1).T
    if excluded is not None:
        cosine = cosine.masked_fill(excluded, -1e4)
    near, index = cosine.topk(k, dim=1)
    if int(labels.sum()) in (0, len(labels)):
        return -near.clamp(min=-1).mean(dim=1)
    return ((near / TEMPERATURE).softmax(dim=1) * labels[index]).sum(dim=1)


def linear_scores(bank: Tensor, labels: Rows, queries: Tensor) -> npt.NDArray[np.float64]:
    """How defective each query looks (Q,) to a plane through feature space; higher = more defective.

    Logistic regression with classes of equal weight and a fixed penalty on features standardised by the bank.

    Args:
        bank: (N, D) features.
        labels: (N,) 0 or 1, of both.
        queries: (Q, D) features.
    """
    deviation, centre = torch.std_mean(bank, dim=0, correction=0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=200)
    with warnings.catch_warnings():  # a plane that is not quite final is as good a probe
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        model.fit(((bank - centre) / scale).numpy(), labels)
    scores: npt.NDArray[np.float64] = model.decision_function(((queries - centre) / scale).numpy())
    return scores


def _choose(rows: Rows, most: int) -> Rows:
    if len(rows) <= most:
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(mixed_seed(len(rows), most)))
    chosen: Rows = rows[order[:most].sort().values.numpy()]
    return chosen
