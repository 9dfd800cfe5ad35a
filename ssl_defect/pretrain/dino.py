"""DINO (Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin: Emerging properties in self-supervised vision
transformers, ICCV 2021).

A student predicts, from each view, what a slow copy of itself says of the other views. There are no negatives;
near-copies can serve as one more kind of view.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.momentum import follow, follower, rising_momentum
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
    """Settings of DINO."""

    outputs: int = Field(
        256,
        ge=2,
        description="Dimensions of the output. The published 65536 give a million images twenty to one; with some "
        "hundreds of images most would never be chosen, and a batch could not tell their centre.",
    )
    hidden: int = Field(512, ge=8, description="Width of the head; the published 2048 would outgrow a small backbone.")
    bottleneck: int = Field(128, ge=2, description="Width of the embedding before the last layer.")
    head_norm: bool = Field(
        True,
        description="BatchNorm in the head. The paper does without; in a run of a few hundred steps embeddings then "
        "stay almost alike, and the centred output goes uniform.",
    )
    student_temperature: float = Field(0.1, gt=0, description="Of the student's softmax.")
    teacher_temperature: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.03, 0.04),
        description="Of the teacher's softmax, first and last. It is the sharpening: too high and the output becomes "
        "uniform, as 0.07 does here, so it rises only once embeddings differ.",
    )
    temperature_warmup: float = Field(0.3, ge=0, le=1, description="Share of the run over which it rises.")
    centre_momentum: float = Field(0.9, ge=0, lt=1, description="Of the centre: an average over about ten batches.")
    momentum: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="Of the teacher at the start; it rises to 1. The published 0.996 is for a hundred thousand steps, "
        "a run on some hundreds of images has a few hundred.",
    )
    freeze: float = Field(0.05, ge=0, le=1, description="Share of the run in which the last layer stands still.")


class Head(nn.Module):
    """Three layers, a unit vector, and its cosines with the prototypes (Caron et al. 2021, appendix C)."""

    def __init__(self, width: int, options: Options) -> None:
        super().__init__()
        self.layers = mlp([width, options.hidden, options.hidden, options.bottleneck], norm=options.head_norm)
        self.last = Prototypes(options.bottleneck, options.outputs)

    def forward(self, features: Tensor, frozen: bool = False) -> tuple[Tensor, Tensor]:
        """Embeddings (B, V, bottleneck) and outputs (B, V, K) of features (B, V, width)."""
        count, views, _ = features.shape
        embedded = functional.normalize(self.layers(features.flatten(0, 1)).float(), dim=1).view(count, views, -1)
        return embedded, self.last(embedded, frozen)


class DINO(Method):
    """A student predicts a teacher that follows it."""

    logs: ClassVar[dict[str, str]] = {
        "teacher_entropy": "mean entropy of the teacher's outputs over log K, in [0, 1]; 1: uniform, it says nothing",
        "output_use": "perplexity of the teacher's mean output over K, in (0, 1]; 1 / K: one dimension took all",
    }
    strip: ClassVar[tuple[str, ...]] = STRIP
    advice: ClassVar[str] = (
        "if teacher_entropy went to 1 (uniform: centring without enough sharpening) lower "
        "pretrain.options.teacher_temperature; if output_use went to 0 (one dimension: sharpening without enough "
        "centring) lower pretrain.options.centre_momentum or raise teacher_temperature; else lower "
        "pretrain.learning_rate"
    )
    centre: Tensor
    batches: Tensor

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options, self.partners = options, options.groups == "positives"
        self.local_size = local_size(encoder, options.local_size)
        self.head = Head(encoder.width, options)
        self.teacher_encoder, self.teacher_head = follower(encoder), follower(self.head)
        self.register_buffer("centre", torch.zeros(options.outputs))
        self.register_buffer("batches", torch.zeros(()))

    @property
    def handed_on(self) -> Encoder:
        """The teacher, which the paper finds ahead throughout (Caron et al. 2021, section 3.1 and figure 6)."""
        return self.teacher_encoder

    @classmethod
    def check(cls, encoder: Encoder, options: Options, facts: Facts) -> None:
        """Refuse small views that the backbone cannot take."""
        local_size(encoder, options.local_size)

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "global" (B, 2, C, S, S) and "local" (B, n, C, s, s)."""
        return multi_crop(batch, self.options, self.local_size)

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss, health of the teacher and "spread"."""
        options = self.options
        embedded, outputs = self.head(encode(self.encoder, views), frozen=progress < options.freeze)
        taught = self.teach(views["global"])
        temperature = warmed(options.teacher_temperature, options.temperature_warmup, progress)
        self.move_centre(taught)
        targets = sharpened(taught, self.centre, temperature)
        use = perplexity(gather(targets.mean(dim=(0, 1)).unsqueeze(0)).mean(dim=0))
        entropy = torch.special.entr(targets).sum(dim=-1).mean()
        return {
            "loss": cross_view_entropy(targets, (outputs / options.student_temperature).log_softmax(dim=-1)),
            "teacher_entropy": entropy / math.log(options.outputs),
            "output_use": use / options.outputs,
            "spread": spread(embedded[:, :2].flatten(0, 1)),
        }

    @torch.no_grad()
    def teach(self, views: Tensor) -> Tensor:
        """The teacher's outputs (B, 2, K) of global views (B, 2, C, S, S)."""
        outputs: Tensor = self.teacher_head(encode(self.teacher_encoder, {"global": views}))[1]
        return outputs

    @torch.no_grad()
    def move_centre(self, taught: Tensor) -> None:
        """Move the centre (K,) by the mean of outputs (B, 2, K) of all processes (Caron et al. 2021, eq. 4).

        It moves before it is used, and is the plain mean of what was seen as long as that is shorter than the
        average. As published it begins at 0 and moves afterwards; the first targets are then alike for all pictures,
        and what a short run learns from them is to be so.
        """
        self.batches += 1
        weight = (1 / self.batches).clamp(min=1 - self.options.centre_momentum)
        self.centre.lerp_(gather(taught.mean(dim=(0, 1)).unsqueeze(0)).mean(dim=0), weight)

    def after_step(self, progress: float) -> None:
        """The teacher follows."""
        momentum = rising_momentum(self.options.momentum, progress)
        follow(self.teacher_encoder, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, two global views and a local one: (B, 4, C, S, S)."""
        return strip(batch, self.options, self.local_size)


def warmed(temperature: tuple[float, float], warmup: float, progress: float) -> float:
    """The teacher's temperature: from the first to the last over the share `warmup` of the run, in a straight line."""
    first, last = temperature
    return last if progress >= warmup else first + (last - first) * progress / warmup


def sharpened(outputs: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """What the teacher says (Caron et al. 2021, eq. 1 and section 3.1): outputs (..., K) centred, then a softmax."""
    return ((outputs - centre) / temperature).softmax(dim=-1)


METHOD = DINO
