"""MoCo v2 (He et al.: Momentum contrast, CVPR 2020; Chen, Fan, Girshick, He: Improved baselines with MoCo, 2020).

Each query is to find its own key among those of many other pictures, most of which were kept from earlier steps in a
queue. So the number of negatives does not hang on the batch, which suits machines that hold small batches only.

Two things differ from the papers. The queue begins empty and the other keys of the batch are negatives too: the first
step needs some, and a small set's queue is short. And neither a picture's own older keys in the queue nor those of its
near-copies are negatives: in a small set the queue is full of them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.contrast import Queue, cosines, info_nce, mean_cosine, origins, others, share_found
from ssl_defect.nets.momentum import follow, follower
from ssl_defect.nets.projection import mlp
from ssl_defect.nets.subbatches import has_batch_norm, in_subbatches
from ssl_defect.pretrain.base import Facts, Method, Views, gather, spread
from ssl_defect.pretrain.views import ViewSettings, two_views
from ssl_defect.train.plan import Batch


class Options(ViewSettings):
    """Settings of MoCo v2. The views keep what tells a good part from a defective one."""

    temperature: float = Field(0.2, gt=0, description="Of the softmax; 0.2 as in the paper, for views milder than its.")
    projection: int = Field(128, ge=2, description="Width of the projected embedding.")
    queue: int = Field(
        4096,
        ge=1,
        description="Keys kept, at most as many as there are training images: a longer queue holds pictures twice.",
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
    groups: Literal["mask", "ignore", "positives"] = Field(
        "mask",
        description="`mask`: near-copies are never negatives; `positives`: the key is of a near-copy where there is "
        "one, and they are masked as well; `ignore`: as published, they are negatives.",
    )


class MoCoV2(Method):
    """A query of one view is to find the key of the other among the batch's keys and the queue."""

    title: ClassVar[str] = "MoCo v2"
    advice: ClassVar[str] = (
        "lower pretrain.learning_rate, raise pretrain.options.momentum (keys must change slowly) or lengthen "
        "pretrain.warmup"
    )
    logs: ClassVar[dict[str, str]] = {
        "agreement": "mean cosine of a query with its key, in [-1, 1]",
        "queue_similarity": "mean cosine of a query with the queue's negatives, in [-1, 1]; near 1: all look alike",
        "found": "share of queries whose own key is the closest of all, in [0, 1]",
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "query's view", "key's view")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.partners = options.groups == "positives"
        self.head = mlp([encoder.width, encoder.width, options.projection], norm=False)
        self.key_encoder, self.key_head = follower(encoder), follower(self.head)
        self.queue = Queue(min(options.queue, facts.images), options.projection)
        self.splits = options.splits if has_batch_norm(encoder) else 1
        self._fresh: tuple[Tensor, Tensor] | None = None

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "pair" (B, 2, C, S, S), "origin" (B, 2) and "draw" (B,), which shares out the sub-batches."""
        pair, generator = two_views(batch, self.options), batch["generator"]
        draw = torch.rand(len(pair), generator=generator, device=generator.device)
        origin = origins(batch["index"], batch["group"], self.options.groups != "ignore")
        return {"pair": pair, "origin": origin, "draw": draw}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss, the `logs` and "spread"; the keys are put into the queue by `after_step`."""
        pair, origin, draw = views["pair"], views["origin"], views["draw"]
        query = functional.normalize(self.head(self.encoder(pair[:, 0])).float(), dim=1)
        with torch.no_grad():
            seen = in_subbatches(self.key_encoder, pair[:, 1], draw, self.splits)
            key = functional.normalize(self.key_head(seen).float(), dim=1)
        keys, known = self._fresh = gather(key), gather(origin)
        positive = (query * key).sum(dim=1)
        queued = cosines(query, self.queue.keys, others(origin, self.queue.origins))
        negatives = [cosines(query, keys, others(origin, known)), queued]
        return {
            "loss": info_nce(positive, negatives, self.options.temperature),
            "agreement": positive.detach().mean(),
            "queue_similarity": mean_cosine(queued),
            "found": share_found(positive, negatives),
            "spread": spread(query),
        }

    def after_step(self, progress: float) -> None:
        """Move the key encoder towards the query encoder, and put the step's keys into the queue."""
        follow(self.key_encoder, self.encoder, self.options.momentum)
        follow(self.key_head, self.head, self.options.momentum)
        if self._fresh is not None:
            self.queue.enqueue(*self._fresh)
            self._fresh = None

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and two views of it: (B, 3, C, S, S)."""
        return torch.cat([to_float(batch["image"]).unsqueeze(1), two_views(batch, self.options)], dim=1)


METHOD = MoCoV2
