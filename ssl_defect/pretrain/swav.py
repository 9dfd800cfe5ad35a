"""SwAV (Caron, Misra, Mairal, Goyal, Bojanowski, Joulin: Unsupervised learning of visual features by contrasting
cluster assignments, NeurIPS 2020).

Views are shared out evenly among prototypes, and each view is to predict the prototypes of the other views of its
picture. There are no negatives, so near-copies do no harm; as positives they are one more kind of view.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.projection import mlp
from ssl_defect.nets.prototypes import Prototypes, perplexity
from ssl_defect.pretrain.base import Facts, Method, Views, gather, spread
from ssl_defect.pretrain.multi_crop import (
    STRIP,
    MultiCropSettings,
    cross_view_entropy,
    encode,
    local_size,
    multi_crop,
    strip,
)
from ssl_defect.train.plan import Batch


class Options(MultiCropSettings):
    """Settings of SwAV."""

    prototypes: int | None = Field(
        None,
        ge=2,
        description="Number of prototypes; left out: a tenth of the training images, 8 to 3000. The published 3000 "
        "are for a million images: here most would never be a picture's own.",
    )
    projection: int = Field(128, ge=2, description="Width of the projected embedding.")
    temperature: float = Field(0.1, gt=0, description="Of the prediction's softmax.")
    epsilon: float = Field(
        0.05, ge=0.03, description="Of the assignment; lower is harder. Below 0.03 float32 runs out of digits."
    )
    iterations: int = Field(3, ge=1, description="Rounds of Sinkhorn-Knopp.")
    queue: int | None = Field(
        None,
        ge=0,
        description="Embeddings of earlier batches that are shared out with the batch; left out: as many as bring it "
        "to four views per prototype. A small batch alone cannot be spread over many prototypes.",
    )
    queue_from: float = Field(
        0.15, ge=0, le=1, description="Share of the run before the queue is used: until then it holds stale embeddings."
    )
    freeze: float = Field(
        0.05, ge=0, le=1, description="Share of the run in which prototypes stand still, so that the encoder settles."
    )


class SwAV(Method):
    """Views predict each other's prototypes."""

    logs: ClassVar[dict[str, str]] = {
        "prototype_use": "perplexity of the nearest prototypes over how many could be nearest, in (0, 1]; falls to 0 "
        "when all views choose the same",
        "same_prototype": "share of pictures whose two global views are assigned to the same prototype, in [0, 1]",
    }
    strip: ClassVar[tuple[str, ...]] = STRIP
    advice: ClassVar[str] = (
        "lower pretrain.learning_rate, lower pretrain.options.epsilon, raise pretrain.options.freeze, or take fewer "
        "pretrain.options.prototypes"
    )
    queue: Tensor
    written: Tensor

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options, self.partners = options, options.groups == "positives"
        self.local_size = local_size(encoder, options.local_size)
        self.head = mlp([encoder.width, encoder.width, options.projection])
        number = prototype_count(options, facts)
        self.prototypes = Prototypes(options.projection, number)
        self.register_buffer("queue", torch.zeros(2, queue_length(options, facts, number), options.projection))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))

    @classmethod
    def check(cls, encoder: Encoder, options: Options, facts: Facts) -> None:
        """Refuse more prototypes than images, and small views that the backbone cannot take."""
        number = prototype_count(options, facts)
        if number > facts.images:
            raise UserError(
                f"pretrain.options.prototypes: {number} are more than the {facts.images} training images; "
                f"take {facts.images} or less"
            )
        local_size(encoder, options.local_size)

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "global" (B, 2, C, S, S) and "local" (B, n, C, s, s)."""
        return multi_crop(batch, self.options, self.local_size)

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss, health of the prototypes and "spread"."""
        features = encode(self.encoder, views)
        projected = self.head(features.flatten(0, 1)).float().view(*features.shape[:2], -1)
        embedded = gather(functional.normalize(projected, dim=2))  # (B, V, D) of all processes
        scores = self.prototypes(embedded, frozen=progress < self.options.freeze)
        seen = embedded[:, :2].detach().transpose(0, 1)
        codes = self.assign(seen, scores[:, :2].detach().transpose(0, 1), progress)
        self.store(seen, processes=len(embedded) // len(features))
        return {
            "loss": swapped_prediction(scores, codes.transpose(0, 1), self.options.temperature),
            "prototype_use": prototype_use(scores[:, :2].detach().flatten(0, 1)),
            "same_prototype": (codes[0].argmax(1) == codes[1].argmax(1)).float().mean(),
            "spread": spread(embedded[:, :2].flatten(0, 1)),
        }

    @torch.no_grad()
    def assign(self, seen: Tensor, scores: Tensor, progress: float) -> Tensor:
        """Codes (2, B, K) of the global views (2, B, D) with cosines `scores` (2, B, K), each side among its queue."""
        count, options = seen.shape[1], self.options
        held = None
        if self.queue.shape[1] and progress >= options.queue_from:
            scores = torch.cat([scores, self.prototypes(self.queue)], dim=1)
            held = torch.arange(scores.shape[1], device=scores.device) < self.written + count
        return sinkhorn(scores, options.iterations, options.epsilon, held)[:, :count]

    @torch.no_grad()
    def store(self, seen: Tensor, processes: int = 1) -> None:
        """Write embeddings (2, B, D) over the oldest of the queue, process by process in turn."""
        length = self.queue.shape[1]
        if not length:
            return
        ordered = seen.view(2, processes, -1, seen.shape[2]).transpose(1, 2).flatten(1, 2)[:, -length:]
        places = self.written + torch.arange(ordered.shape[1], device=seen.device)
        self.queue[:, places % length] = ordered.to(self.queue.dtype)
        self.written += ordered.shape[1]

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, two global views and a local one: (B, 4, C, S, S)."""
        return strip(batch, self.options, self.local_size)


def prototype_count(options: Options, facts: Facts) -> int:
    """Number of prototypes: the one asked for, or a tenth of the images, 8 to 3000, but no more than images."""
    return options.prototypes or min(max(facts.images // 10, 8), 3000, facts.images)


def queue_length(options: Options, facts: Facts, prototypes: int) -> int:
    """Length of the queue: the one asked for, or what brings a batch to four views per prototype, each image once."""
    wanted = min(4 * prototypes, facts.images) - facts.batch_size
    return max(wanted, 0) if options.queue is None else options.queue


@torch.no_grad()
def sinkhorn(scores: Tensor, iterations: int = 3, epsilon: float = 0.05, valid: Tensor | None = None) -> Tensor:
    """Soft assignments that share rows out evenly among prototypes (Caron et al. 2020, eq. 3 to 5; Cuturi 2013).

    Args:
        scores: (..., N, K) cosines of N rows with K prototypes.
        iterations: rounds of making columns and then rows equal.
        epsilon: weight of the entropy; towards 0 each row goes to one prototype.
        valid: (N,) bool, rows that count; the others come out as 0.

    Returns:
        (..., N, K) in [0, 1]; rows sum to 1, and columns to N / K once it has converged.
    """
    codes = ((scores - scores.amax(dim=(-2, -1), keepdim=True)) / epsilon).exp()
    if valid is not None:
        codes = codes * valid.unsqueeze(-1)
    least = torch.finfo(codes.dtype).tiny
    for _ in range(iterations):
        codes = codes / codes.sum(dim=-2, keepdim=True).clamp(min=least)
        codes = codes / codes.sum(dim=-1, keepdim=True).clamp(min=least)
    return codes


def swapped_prediction(scores: Tensor, codes: Tensor, temperature: float = 0.1) -> Tensor:
    """Each view predicts the codes of the other global views (Caron et al. 2020, eq. 2 and 6), mean over all pairs.

    Args:
        scores: (B, V, K) cosines with the prototypes, the global views first.
        codes: (B, 2, K) assignments of the global views.
        temperature: divides the cosines, above 0.
    """
    return cross_view_entropy(codes, (scores / temperature).log_softmax(dim=-1))


def prototype_use(scores: Tensor) -> Tensor:
    """Perplexity of the nearest prototypes of rows (N, K), over min(N, K): 1 when all are used evenly."""
    counts = torch.bincount(scores.argmax(dim=1), minlength=scores.shape[1])
    return perplexity(counts / len(scores)) / min(scores.shape)


METHOD = SwAV
