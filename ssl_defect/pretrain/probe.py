"""The online probe: how well the nearest training images tell a defective validation image, with nothing trained."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.data.store import Store
from ssl_defect.nets.backbones import Encoder
from ssl_defect.pretrain.base import spread
from ssl_defect.train.batches import Batches, Rows
from ssl_defect.train.seeds import mixed_seed

METRIC = "kNN AUROC on validation"
TEMPERATURE = 0.07  # of the weights of neighbours: Wu et al. 2018, section 3.4
BANK, QUERIES = 1000, 500  # images at most, a fixed choice, so that a probe stays a small part of an epoch


class Probe:
    """kNN AUROC on validation, measured on the same images each time; it never sees the test images.

    Attributes:
        k: neighbours that vote.
    """

    def __init__(self, store: Store, fabric: Fabric, k: int = 20) -> None:
        self.fabric, self.store = fabric, store
        self.bank, self.queries = (
            _choose(store.rows(split), most) for split, most in (("train", BANK), ("val", QUERIES))
        )
        self.k = max(1, min(k, len(self.bank) // 2))

    def measure(self, encoder: Encoder) -> dict[str, float | None]:
        """Probe the encoder as it stands.

        Returns:
            "auroc": in [0, 1], None where validation has images of one class only; "spread" of the features.
        """
        labels = torch.from_numpy(self.store.labels)
        groups = torch.from_numpy(self.store.groups)
        bank, queries = self.features(encoder, self.bank), self.features(encoder, self.queries)
        truth = labels[self.queries]
        auroc = None
        if len(truth) and 0 < int(truth.sum()) < len(truth):
            copies = groups[self.queries][:, None] == groups[self.bank][None, :]
            scores = neighbour_scores(
                bank, labels[self.bank], queries, self.k, copies & (groups[self.queries] >= 0)[:, None]
            )
            auroc = float(roc_auc_score(truth.numpy(), scores.numpy()))
        return {"auroc": auroc, "spread": float(spread(bank))}

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


def _choose(rows: Rows, most: int) -> Rows:
    if len(rows) <= most:
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(mixed_seed(len(rows), most)))
    chosen: Rows = rows[order[:most].sort().values.numpy()]
    return chosen
