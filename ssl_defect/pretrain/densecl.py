"""DenseCL (Wang, Zhang, Shen, Kong, Li: Dense contrastive learning for self-supervised visual pre-training, CVPR 2021).

MoCo v2 teaches what a picture is as a whole. Here, beside that, each cell of the last map is to find the cell of the
other view that shows the same place, against pictures of other parts: what an encoder needs that is to outline
defects. Which cells correspond is read off the features themselves, by the highest cosine.

As in `moco_v2` the queues begin empty, the other keys of the batch are negatives too, and a picture's own older keys
and those of its near-copies are not.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.contrast import Queue, cosines, info_nce, mean_cosine, origins, others
from ssl_defect.nets.momentum import follow, follower
from ssl_defect.nets.projection import mlp
from ssl_defect.nets.subbatches import has_batch_norm, in_subbatches
from ssl_defect.pretrain.base import Facts, Method, Views, gather, spread
from ssl_defect.pretrain.views import ViewSettings, two_views
from ssl_defect.train.plan import Batch


class Options(ViewSettings):
    """Settings of DenseCL. The views keep what tells a good part from a defective one."""

    weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Of the dense loss, lambda in the paper; the global loss has the rest. Half each, as published: "
        "which cells correspond is read off features that the global loss is the first to make telling.",
    )
    grid: int = Field(
        7,
        ge=2,
        description="Cells a side that are compared, at most, as in the paper at 224 pixels; a larger map is pooled.",
    )
    temperature: float = Field(0.2, gt=0, description="Of both softmaxes; 0.2 as in the paper.")
    projection: int = Field(128, ge=2, description="Width of the projected embeddings, of pictures and of cells.")
    queue: int = Field(
        4096,
        ge=1,
        description="Keys kept in each queue, at most as many as there are training images: a longer one holds "
        "pictures twice.",
    )
    momentum: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="Of the key encoder. The paper's 0.999 takes thousands of steps to follow; a small set's run has "
        "hundreds.",
    )
    splits: int = Field(
        4,
        ge=1,
        description="Sub-batches in which keys are made, each with its own statistics, for backbones with BatchNorm; "
        "each has 8 images at least, so a batch below 16 is not cut. 1: off.",
    )
    groups: Literal["mask", "ignore"] = Field(
        "mask",
        description="`mask`: near-copies are never negatives; `ignore`: as published, they are. They are no positives "
        "here: their places need not correspond.",
    )


class Heads(nn.Module):
    """Two small networks on a map: one embeds the picture, the other every cell."""

    def __init__(self, width: int, out: int, grid: int) -> None:
        super().__init__()
        self.picture = mlp([width, width, out], norm=False)
        self.cell = mlp([width, width, out], norm=False)
        self.grid = grid

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of maps (B, C, h, w): pictures (B, D), cells (B, N, D) and the features (B, N, C) of the cells; float32.

        Only the pictures are normalised.
        """
        picture = functional.normalize(self.picture(seen.mean(dim=(2, 3))).float(), dim=1)
        if max(seen.shape[2:]) > self.grid:
            seen = functional.adaptive_avg_pool2d(seen, self.grid)
        features = seen.flatten(2).transpose(1, 2)
        return picture, self.cell(features).float(), features.float()


class DenseCL(Method):
    """A view's query is to find the other's key, and each of its cells the cell that shows the same place."""

    advice: ClassVar[str] = (
        "lower pretrain.learning_rate or pretrain.options.weight, or raise pretrain.options.momentum (keys must change "
        "slowly)"
    )
    logs: ClassVar[dict[str, str]] = {
        "global_loss": "InfoNCE of pictures, at least 0",
        "dense_loss": "InfoNCE of cells, at least 0",
        "agreement": "mean cosine of a query with its key, in [-1, 1]",
        "dense_agreement": "mean cosine of a cell with the one that corresponds to it, in [-1, 1]",
        "queue_similarity": "mean cosine of a query with the queue's negatives, in [-1, 1]; near 1: all look alike",
        "matched": "share of the other view's cells that some cell finds, in (0, 1]; low: all find the same one",
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "query's view", "key's view")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.heads = Heads(encoder.map_width, options.projection, options.grid)
        self.key_encoder, self.key_heads = follower(encoder), follower(self.heads)
        size = min(options.queue, facts.images)
        self.queue, self.dense_queue = Queue(size, options.projection), Queue(size, options.projection)
        self.splits = options.splits if has_batch_norm(encoder) else 1
        self._fresh: tuple[Tensor, Tensor, Tensor] | None = None

    @classmethod
    def check(cls, encoder: Encoder, options: Options, facts: Facts) -> None:
        """Refuse a last map of one cell: there is nothing to correspond."""
        if map_side(encoder) < 2:
            raise UserError(
                f"data.image_size: densecl compares places on the last map of {encoder.name}, which is a single cell "
                f"at {encoder.image_size} pixels; take {2 * encoder.reductions[-1]} or more"
            )

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "pair" (B, 2, C, S, S), "origin" (B, 2) and "draw" (B,), which shares out the sub-batches."""
        pair, generator = two_views(batch, self.options), batch["generator"]
        draw = torch.rand(len(pair), generator=generator, device=generator.device)
        origin = origins(batch["index"], batch["group"], self.options.groups != "ignore")
        return {"pair": pair, "origin": origin, "draw": draw}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss, the `logs` and "spread"; the keys are put into the queues by `after_step`."""
        pair, draw = views["pair"], views["draw"]
        query, cells, features = self.heads(self.encoder.last_map(pair[:, 0]))
        with torch.no_grad():
            seen = in_subbatches(self.key_encoder.last_map, pair[:, 1], draw, self.splits)
            key, key_cells, key_features = self.key_heads(seen)
            match = correspondence(features, key_features)
            pooled = functional.normalize(key_cells.mean(dim=1), dim=1)
        positive, dense_positive = (query * key).sum(dim=1), matched_cosines(cells, key_cells, match)
        negatives, dense_negatives = self._negatives(query, cells, (key, pooled), views["origin"])
        whole = info_nce(positive, negatives, self.options.temperature)
        dense = info_nce(dense_positive, dense_negatives, self.options.temperature)
        return {
            "loss": (1 - self.options.weight) * whole + self.options.weight * dense,
            "global_loss": whole.detach(),
            "dense_loss": dense.detach(),
            "agreement": positive.detach().mean(),
            "dense_agreement": dense_positive.detach().mean(),
            "queue_similarity": mean_cosine(negatives[1]),
            "matched": share_matched(match),
            "spread": spread(query),
        }

    def _negatives(
        self, query: Tensor, cells: Tensor, made: tuple[Tensor, Tensor], origin: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Cosines of queries (B, D) and of cells (B, N, D) with the batch's keys and with those of the queue.

        `made` are the keys of pictures and of pooled cells; those of all processes are kept for `after_step`.
        """
        cells = functional.normalize(cells, dim=2)
        keys, pooled, known = self._fresh = gather(made[0]), gather(made[1]), gather(origin)
        beside, before = others(origin, known), others(origin, self.queue.origins)
        return (
            [cosines(query, keys, beside), cosines(query, self.queue.keys, before)],
            [
                cosines(cells, pooled, beside.unsqueeze(1)),
                cosines(cells, self.dense_queue.keys, before.unsqueeze(1)),
            ],
        )

    def after_step(self, progress: float) -> None:
        """Move the key encoder towards the query encoder, and put the step's keys into the queues."""
        follow(self.key_encoder, self.encoder, self.options.momentum)
        follow(self.key_heads, self.heads, self.options.momentum)
        if self._fresh is not None:
            keys, pooled, known = self._fresh
            self.queue.enqueue(keys, known)
            self.dense_queue.enqueue(pooled, known)
            self._fresh = None

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and two views of it: (B, 3, C, S, S)."""
        return torch.cat([to_float(batch["image"]).unsqueeze(1), two_views(batch, self.options)], dim=1)


def correspondence(features: Tensor, key_features: Tensor) -> Tensor:
    """For each cell the number of the other view's cell with the highest cosine (Wang et al. 2021, eq. 3).

    Args:
        features, key_features: (B, N, C) what the backbone made of the cells of both views, of any length.

    Returns:
        (B, N) int64 in [0, N).
    """
    with torch.autocast(features.device.type, enabled=False):
        one, two = functional.normalize(features.detach(), dim=2), functional.normalize(key_features, dim=2)
        return (one @ two.transpose(1, 2)).argmax(dim=2)


def matched_cosines(cells: Tensor, key_cells: Tensor, match: Tensor) -> Tensor:
    """(B, N) cosine of each cell of `cells` (B, N, D) with the cell of `key_cells` that `match` (B, N) names."""
    chosen = key_cells.gather(1, match.unsqueeze(2).expand(-1, -1, key_cells.shape[2]))
    return (functional.normalize(cells, dim=2) * functional.normalize(chosen, dim=2)).sum(dim=2)


def share_matched(match: Tensor) -> Tensor:
    """Share of the N cells that some entry of `match` (B, N) names, mean over the batch, in (0, 1]."""
    named = torch.zeros(match.shape, device=match.device).scatter_(1, match, 1.0)
    return named.mean()


@torch.no_grad()
def map_side(encoder: Encoder) -> int:
    """Cells along the shorter side of the encoder's last map."""
    training = encoder.training
    encoder.eval()
    size = encoder.image_size
    seen = encoder.last_map(torch.zeros(1, 3, size, size, device=encoder.mean.device))
    encoder.train(training)
    return min(seen.shape[2:])


METHOD = DenseCL
