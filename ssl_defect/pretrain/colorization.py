"""Colorization (Zhang, Isola, Efros: Colorful image colorization, ECCV 2016, arXiv:1603.08511).

A grey set has no colours to tell. There the same task is done one step lower: the picture is reduced to its outlines
and the tones are told, as in colouring-in a line drawing. What lies between two edges, a dark crack or a bright
scratch, can only be told by knowing the part.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_defect.console import say
from ssl_defect.data.augment import to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.pretrain.base import Facts, Method, Views, gather
from ssl_defect.pretrain.lab import colour_range
from ssl_defect.pretrain.palettes import Colours, Palette, Tones
from ssl_defect.pretrain.quality import WATCHED, psnr
from ssl_defect.pretrain.views import GeometrySettings, placed
from ssl_defect.train.plan import Batch

NEARLY_GREY = 5.0  # range of colours, in steps of Lab, that lies within one square of the a-b plane
LEAST_CELL = 4  # pixels; colours are told at a quarter of the size, as in the paper


class Options(GeometrySettings):
    """Settings of colorization. No light and no hue is moved: they are the answer."""

    target: Literal["auto", "colour", "tones"] = Field(
        "auto",
        description="What is told: `colour` from lightness, or grey `tones` from outlines; `auto` takes colour where "
        "the set has some, and says so where it has none.",
    )
    bin: int = Field(10, ge=5, le=50, description="Width of a colour in steps of Lab; the paper's.")
    levels: int = Field(8, ge=2, le=64, description="Grey tones; finer ones differ by less than exposure does.")
    uniform: float = Field(
        0.9,
        gt=0,
        le=1,
        description="The paper's lambda: 1 counts every cell alike, near 0 every colour alike. The ground that a part "
        "lies on fills most cells; its rust, or a crack, fills the rare ones. The paper's 0.5 is for photographs of "
        "everything: where a set has few of the 259 colours, it weighs the rarest 130 times the commonest, 0.9 15 "
        "times.",
    )
    hidden: int = Field(32, ge=8, description="Channels of the painting head. Light, so that the encoder has to learn.")


class Colorization(Method):
    """The colours of a picture are told from its lightness, or its tones from its outlines."""

    logs: ClassVar[dict[str, str]] = {
        "accuracy": "share of cells whose colour or tone is told right, in [0, 1]",
        "psnr": "peak signal-to-noise ratio of the painted picture in dB; 10 is noise, 20 rough, 30 close",
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "seen by the encoder", "painted")
    frequencies: Tensor
    batches: Tensor

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        stride = encoder.reductions[-1]
        cell = next(side for side in range(min(LEAST_CELL, stride), stride + 1) if stride % side == 0)
        target, reason = chosen_target(options, facts)
        if reason:
            say(f"colorization: {reason}; it tells {options.levels} grey tones from outlines instead (target: tones)")
        self.palette: Palette = Colours(options.bin, cell) if target == "colour" else Tones(options.levels, cell)
        count = len(self.palette.centres)
        self.head = painting_head(encoder, options.hidden, count, stride // cell)
        self.register_buffer("frequencies", torch.full((count,), 1 / count))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @classmethod
    def check(cls, encoder: Encoder, options: Any, facts: Facts) -> None:
        """Refuse colour as the target of a set without colours."""
        _, reason = chosen_target(options, facts)
        if reason and options.target == "colour":
            raise UserError(
                f"pretrain.options.target: colour cannot be told, {reason}; take auto or tones, which tells grey tones "
                "from outlines"
            )

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "image" (B, C, S, S), "source" (B, 1, S, S) as the encoder sees it, "target" (B, h, w) to be told."""
        images = placed(to_float(batch["image"]), batch["generator"], self.options)
        return {"image": images, "source": self.palette.source(images), "target": self.palette.target(images)}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss: rebalanced cross-entropy over the cells (Zhang et al. 2016, eq. 2); "accuracy", "psnr"."""
        target = views["target"]
        logits = self.told(views["source"], target)
        if self.training:
            self._count(target)
        loss = balanced_cross_entropy(logits, target, class_weights(self.frequencies, self.options.uniform))
        with torch.no_grad():
            accuracy = (logits.argmax(dim=1) == target).float().mean()
            images = views["image"][:WATCHED]
            likeness = psnr(self.palette.paint(logits[:WATCHED], images), images)
        return {"loss": loss, "accuracy": accuracy, "psnr": likeness}

    def told(self, source: Tensor, like: Tensor) -> Tensor:
        """Logits (B, Q, h, w) for the cells of `like` (B, h, w); what maps reach beyond the picture is cut off."""
        logits: Tensor = self.head(self.encoder.last_map(source)).float()
        return logits[:, :, : like.shape[1], : like.shape[2]]

    @torch.no_grad()
    def _count(self, target: Tensor) -> None:
        """Mean over the batches so far of the share of cells that have each colour."""
        share = target.flatten().bincount(minlength=len(self.frequencies)) / target.numel()
        self.batches += 1
        self.frequencies += (gather(share.unsqueeze(0)).mean(dim=0) - self.frequencies) / self.batches

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, what the encoder sees of it and what is painted after that: (B, 3, C, S, S)."""
        images = to_float(batch["image"])
        source = self.palette.source(images)
        painted = self.palette.paint(self.told(source, self.palette.target(images)), images)
        return torch.stack([images, source.expand_as(images), painted], dim=1)


def chosen_target(options: Options, facts: Facts) -> tuple[str, str]:
    """`colour` or `tones`, and what speaks against colour where it is not plainly asked to leave it."""
    if options.target == "tones":
        return "tones", ""
    if facts.channels == 1:
        return "tones", "the set is grey"
    reach = colour_range(facts.sample) if facts.sample is not None else NEARLY_GREY
    if reach < NEARLY_GREY:
        return "tones", f"the pictures are all but grey (colours within {reach:.1f} of Lab, {NEARLY_GREY:.0f} needed)"
    return "colour", ""


def painting_head(encoder: Encoder, hidden: int, count: int, enlarge: int) -> nn.Sequential:
    """From the last map (B, D, h, w) to logits (B, count, h * enlarge, w * enlarge)."""
    return nn.Sequential(
        nn.Conv2d(encoder.map_width, hidden * enlarge**2, 1),
        nn.PixelShuffle(enlarge),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(hidden, count, 1),
    )


def class_weights(frequencies: Tensor, uniform: float) -> Tensor:
    """Weights (Q,) of colours of those frequencies, which sum to 1; their mean over the cells is 1.

    w = 1 / ((1 - uniform) p + uniform / Q), scaled (Zhang et al. 2016, eq. 4, with p as it is instead of smoothed).
    """
    weights = 1 / ((1 - uniform) * frequencies + uniform / len(frequencies))
    return weights / (frequencies * weights).sum()


def balanced_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean over the cells (B, h, w) of their cross-entropy times the weight (Q,) of their colour; logits (B, Q, h, w).

    The sum is not divided by the weights that the batch happens to have, so that batches and processes can be averaged.
    """
    return (functional.cross_entropy(logits, target, reduction="none") * weights[target]).mean()


METHOD = Colorization
