"""Context prediction (Doersch, Gupta, Efros: Unsupervised visual representation learning by context prediction, ICCV
2015, arXiv:1505.05192): where one patch lies beside another.

Like rotation it asks how a part is laid out: parts that lie the same way teach most, an even surface teaches little.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.projection import mlp
from ssl_defect.pretrain.base import Facts, Method, Views
from ssl_defect.pretrain.tiles import as_pictures, cut, piece_size, standardise
from ssl_defect.pretrain.views import GeometrySettings, placed
from ssl_defect.train.plan import Batch

AROUND = torch.tensor([[y, x] for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x])  # (8, 2) in reading order


class Options(GeometrySettings):
    """Settings of context prediction."""

    flips: bool = Field(False, description="Mirror. Off: what lies beside a patch depends on which way the part lies.")
    turns: bool = Field(False, description="Quarter turns, off for the same reason.")
    patch: float = Field(
        0.2, gt=0, lt=1, description="Side of a patch as a share of the picture's; three and their gaps must fit in."
    )
    gap: float = Field(
        0.5, ge=0, description="Between neighbours, as a share of the patch: lines must not run on across it."
    )
    jitter: float = Field(
        0.15, ge=0, description="How far the second patch moves any way by chance, as a share of the patch."
    )
    drop_channels: bool = Field(
        True,
        description="Leave each patch of a colour picture one channel: colour fringes of a lens tell how far from its "
        "middle a patch lies, and a network finds them first.",
    )
    hidden: int = Field(256, ge=8, description="Width of the layer on the features of both patches.")

    @model_validator(mode="after")
    def _patches_lie_apart(self) -> Options:
        if self.gap and self.jitter > self.gap:
            raise ValueError(f"jitter must not be more than gap ({self.gap}), or patches touch; got {self.jitter}")
        return self


class Context(Method):
    """On which of eight sides of a patch its neighbour was cut out is to be told from the two."""

    title: ClassVar[str] = "Context prediction"
    logs: ClassVar[dict[str, str]] = {
        "accuracy": "share of sides told right, in [0, 1]; it stays at 0.125, chance, on an even surface"
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "the pair in its place", "first patch", "second patch")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.side, self.step, self.jitter = measures(facts.image_size, options)
        self.size = piece_size(encoder, self.side, "context")
        self.head = mlp([2 * encoder.width, options.hidden, len(AROUND)])
        self.chance = math.log(len(AROUND))

    @classmethod
    def check(cls, encoder: Encoder, options: Any, facts: Facts) -> None:
        """Refuse backbones that take pictures of one size only, and patches that do not fit into the picture."""
        side, step, jitter = measures(facts.image_size, options)
        if side < 3 or facts.image_size < side + 2 * (step + jitter):
            raise UserError(
                f"pretrain.options.patch: {options.patch} makes patches of {side} pixels, of which three and their "
                f"gaps do not fit into {facts.image_size} pixels, or that are below 3; leave patch, gap and jitter out"
            )
        piece_size(encoder, side, "context")

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "pair" (B, 2, C, s, s), and "answer" (B,), the side of the first on which the second lies."""
        generator = batch["generator"]
        images = placed(to_float(batch["image"]), generator, self.options)
        corners, answer = self.places(len(images), generator)
        return {"pair": self.patches(images, corners, generator), "answer": answer}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss: cross-entropy over the eight sides; "accuracy"."""
        pair, answer = views["pair"], views["answer"]
        logits = self.head(self.encoder(pair.flatten(0, 1)).view(len(pair), -1)).float()
        accuracy = (logits.detach().argmax(dim=1) == answer).float().mean()
        return {"loss": functional.cross_entropy(logits, answer), "accuracy": accuracy}

    def places(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Upper left corners (count, 2 patches, 2) in pixels, row first, and the sides (count,) in reading order.

        The first patch lies where all eight neighbours would fit in, so that its own place tells nothing of the side.
        """
        device = generator.device
        draw = torch.rand(2, count, 2, generator=generator, device=device)
        answer = torch.randint(len(AROUND), (count,), generator=generator, device=device)
        reach = self.step + self.jitter
        first = reach + (draw[0] * (self.encoder.image_size - self.side - 2 * reach + 1)).long()
        moved = (draw[1] * (2 * self.jitter + 1)).long() - self.jitter
        return torch.stack([first, first + AROUND.to(device)[answer] * self.step + moved], dim=1), answer

    def patches(self, images: Tensor, corners: Tensor, generator: Generator) -> Tensor:
        """The pairs (B, 2, C, s, s), each patch normalised alone."""
        x = standardise(cut(images, corners[..., 0], corners[..., 1], self.side))
        if images.shape[1] > 1 and self.options.drop_channels:
            x = one_channel(x, generator)
        return as_pictures(x, self.size)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, its pair of patches where they lie and as the network sees them: (B, 4, C, S, S)."""
        images, generator = to_float(batch["image"]), batch["generator"]
        view = placed(images, generator, self.options)
        size = view.shape[-1]
        corners, _ = self.places(len(view), generator)
        after = torch.arange(size, device=view.device) - corners.unsqueeze(3)  # (B, patch, row or column, S)
        rows, columns = ((after >= 0) & (after < self.side)).unbind(2)
        seen = (rows.unsqueeze(3) & columns.unsqueeze(2)).any(dim=1, keepdim=True)
        pair = functional.interpolate(self.patches(view, corners, generator).flatten(0, 1), size=(size, size))
        shown = pair.view(len(view), 2, *view.shape[1:])
        return torch.cat([torch.stack([images, torch.where(seen, view, 0.5)], dim=1), shown], dim=1)


def measures(image_size: int, options: Options) -> tuple[int, int, int]:
    """Side of a patch, step from one to the next and greatest jitter, in pixels."""
    side = int(image_size * options.patch)
    gap = int(side * options.gap)
    return side, side + gap, min(max(1, int(side * options.jitter)), gap) if options.jitter else 0


def one_channel(patches: Tensor, generator: Generator) -> Tensor:
    """Standardised patches (B, N, 3, s, s) with all but one channel of each replaced by faint noise.

    Its deviation is a hundredth of the remaining channel's ("color dropping", Doersch et al. 2015, section 3.1).
    """
    kept = torch.randint(3, patches.shape[:2], generator=generator, device=patches.device)
    others = kept[:, :, None, None, None] != torch.arange(3, device=patches.device).view(3, 1, 1)
    noise = torch.randn(patches.shape, generator=generator, device=patches.device).mul_(0.01)
    return torch.where(others, noise, patches)


METHOD = Context
