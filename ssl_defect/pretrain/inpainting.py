"""Context encoders (Pathak, Krähenbühl, Donahue, Darrell, Efros: Feature learning by inpainting, CVPR 2016).

A block is cut out of the picture, the encoder sees what is left, and a light convolutional decoder paints the block
from the encoder's last map. What differs from the paper: its channel-wise fully connected layer, which carried
information across AlexNet's small fields of view, is left out, since the backbones of today see the whole of a small
picture; and so is the adversarial loss. It wants a discriminator with steps of its own beside the method's, and
makes pictures sharper, not features better: the paper learned its features by the reconstruction loss alone.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.painters import HolePainter, masked_map
from ssl_defect.pretrain.base import Facts, Method, Views
from ssl_defect.pretrain.masking import check_backbone, strip_of
from ssl_defect.pretrain.quality import LOGS, WATCHED, quality
from ssl_defect.pretrain.views import GeometrySettings, placed
from ssl_defect.train.plan import Batch

BLOCKS = 5  # where several are cut out


class Options(GeometrySettings):
    """Settings of inpainting."""

    region: Literal["block", "centre", "blocks"] = Field(
        "block",
        description="`block`: one at a random place; `centre`: always in the middle, which lets the encoder learn "
        "that one border; `blocks`: five, that may overlap. One block hides most of a defect or none of it.",
    )
    share: float = Field(
        0.25,
        gt=0,
        le=0.5,
        description="Of the picture's area that is cut out (by `blocks`: at most). The published quarter: what "
        "texture alone can continue is too easy, and half of a part cannot be told from the rest.",
    )
    overlap: int | None = Field(
        None,
        ge=0,
        description="Pixels around the hole that are painted as well, so that the block joins its surroundings. "
        "Left out: a 32nd of the picture, as published (7 of 227).",
    )
    overlap_weight: float = Field(10.0, ge=0, description="Of the pixels of that band in the loss, as published.")
    decoder_width: int = Field(
        128, ge=16, multiple_of=8, description="Of the decoder's coarsest level; light, so that the encoder must learn."
    )


class Inpainting(Method):
    """A block that was cut out is painted from its surroundings."""

    logs: ClassVar[dict[str, str]] = LOGS
    strip: ClassVar[tuple[str, ...]] = ("picture", "seen by the encoder", "painted")
    nothing: Tensor

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.overlap = band_width(encoder, options)
        self.decoder = HolePainter(encoder, facts.channels, options.decoder_width)
        self.register_buffer("nothing", torch.zeros(1, 3, 1, 1), persistent=False)  # the mean colour: section 3.3

    @classmethod
    def check(cls, encoder: Encoder, options: Options, facts: Facts) -> None:
        """Refuse backbones without a map, and holes that leave no room around them."""
        check_backbone("inpainting", encoder)
        size, band = encoder.image_size, band_width(encoder, options)
        side = hole_side(size, options.share)
        if side + 2 * band >= size:
            raise UserError(
                f"pretrain.options.overlap: a hole of {side} pixels and a band of {band} around it do not fit into "
                f"{size} pixels; take an overlap of {(size - side - 1) // 2} or less"
            )

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "image" (B, C, S, S) in [0, 1] and "hole" (B, 1, S, S) bool."""
        images = placed(to_float(batch["image"]), batch["generator"], self.options)
        return {"image": images, "hole": self.holes(len(images), batch["generator"])}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss: `hole_error` in the encoder's units; and the `logs`."""
        images, hole = views["image"], views["hole"]
        painted = self.paint(images, hole)
        target = (images - self.encoder.mean.mean()) / self.encoder.std.mean()
        loss = hole_error(painted, target, hole, self.overlap, self.options.overlap_weight)
        few = slice(WATCHED)
        return {"loss": loss} | quality(self.join(images[few], painted[few].detach(), hole[few]), images, hole)

    def paint(self, images: Tensor, hole: Tensor) -> Tensor:
        """What the decoder makes of pictures with holes: (B, C, S, S) in the encoder's units, float32."""
        painted: Tensor = self.decoder(masked_map(self.encoder, images, hole, self.nothing), images.shape[-1])
        return painted.float()

    def join(self, images: Tensor, painted: Tensor, hole: Tensor) -> Tensor:
        """Pictures in [0, 1] with their holes painted."""
        pixels = painted * self.encoder.std.mean() + self.encoder.mean.mean()
        return torch.where(hole, pixels, images).clamp(0, 1)

    def holes(self, count: int, generator: Generator) -> Tensor:
        """Where `count` pictures are cut out: (count, 1, S, S) bool."""
        size, share = self.encoder.image_size, self.options.share
        side, margin = hole_side(size, share), self.overlap
        if self.options.region == "centre":
            corners = torch.full((count, 1, 2), (size - side) // 2, device=generator.device)
            return blocks(corners, torch.full_like(corners, side), size)
        number = BLOCKS if self.options.region == "blocks" else 1
        draw = torch.rand(count, number, 3, generator=generator, device=generator.device)
        sides = torch.full_like(draw[:, :, :1], side)
        if number > 1:  # the largest of five keep to their share of the area even where none overlap
            sides = (side / number**0.5 * (0.5 + 0.5 * draw[:, :, :1])).floor().clamp(min=1)
        corners = margin + (draw[:, :, 1:] * (size - 2 * margin - sides + 1)).floor()
        return blocks(corners, sides.expand_as(corners), size)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, what the encoder sees of it, and the whole with the hole painted: (B, 3, C, S, S)."""
        images = to_float(batch["image"])
        hole = self.holes(len(images), batch["generator"])
        return strip_of(images, self.join(images, self.paint(images, hole), hole), hole)


def hole_error(painted: Tensor, target: Tensor, hole: Tensor, overlap: int, weight: float) -> Tensor:
    """Mean squared error over the hole (Pathak et al. 2016, eq. 1) and, weighted, a band of known pixels around it.

    The mean is taken within each picture first, so that each counts the same however large its hole is.

    Args:
        painted, target: (B, C, S, S).
        hole: (B, 1, S, S) bool, a pixel at least in every picture.
        overlap: width of the band in pixels; 0 leaves it out.
        weight: of the band's pixels; those of the hole weigh 1.
    """
    weights = hole.float()
    if overlap:
        grown = functional.max_pool2d(weights, 2 * overlap + 1, stride=1, padding=overlap)
        weights = weights + weight * (grown - weights)
    error = (painted - target).square().mean(dim=1, keepdim=True)
    return ((error * weights).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3))).mean()


def blocks(corners: Tensor, sides: Tensor, size: int) -> Tensor:
    """The union of rectangles: (B, 1, size, size) bool.

    Args:
        corners: (B, n, 2) first row and column of each rectangle, in pixels.
        sides: (B, n, 2) its height and width.
    """
    cells = torch.arange(size, device=corners.device)
    inside = (cells >= corners.unsqueeze(3)) & (cells < (corners + sides).unsqueeze(3))
    return (inside[:, :, 0, :, None] & inside[:, :, 1, None, :]).any(dim=1, keepdim=True)


def hole_side(size: int, share: float) -> int:
    """Side in pixels of a square of that share of a picture's area."""
    return max(1, round(size * math.sqrt(share)))


def band_width(encoder: Encoder, options: Options) -> int:
    """Pixels around the hole that are painted as well."""
    return encoder.image_size // 32 if options.overlap is None else options.overlap


METHOD = Inpainting
