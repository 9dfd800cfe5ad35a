"""Masked autoencoders (He, Chen, Xie, Li, Dollar, Girshick: Masked autoencoders are scalable vision learners, 2022).

Plain ViTs get the paper's design: only the visible patches pass through the encoder, a light decoder fills in the
rest. A convolution cannot skip patches, so a CNN or another hierarchical backbone sees the whole picture with the
hidden patches replaced by a learned value, and one linear layer on its last map predicts them (SimMIM, Xie et al.
2022; ConvNeXt V2, Woo et al. 2023, likewise trains on masked input). What the paper saves in compute by skipping
hidden patches is therefore saved for plain ViTs only.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Generator, Tensor

from ssl_defect.data.augment import to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.painters import MapPainter, Painter, TokenPainter
from ssl_defect.nets.patches import cover, hidden_count, normalise_patches, patchify, random_order
from ssl_defect.pretrain.base import Facts, Method, Views
from ssl_defect.pretrain.masking import base_unit, check_backbone, check_sizes, rebuild, strip_of
from ssl_defect.pretrain.quality import LOGS, WATCHED, quality
from ssl_defect.pretrain.views import GeometrySettings, placed
from ssl_defect.train.plan import Batch


class Options(GeometrySettings):
    """Settings of masked pretraining."""

    mask_ratio: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the patches that is hidden; left out: the published 0.75 for ViTs, and 0.6 otherwise, "
        "since a convolution looks across the borders of holes and needs something to look at.",
    )
    unit: int | None = Field(
        None,
        ge=4,
        description="Side of a patch in pixels. A ViT's own; otherwise, left out, 32, or 16 below 192-pixel pictures.",
    )
    decoder_width: int = Field(128, ge=16, multiple_of=16, description="Width of the ViT's decoder.")
    decoder_depth: int = Field(2, ge=1, description="Blocks of the ViT's decoder.")
    normalise: bool = Field(
        True,
        description="Predict each patch less its mean, over its deviation: exposure drops out, and faint texture "
        "counts as much as strong edges.",
    )


class MAE(Method):
    """Hidden patches are predicted from the visible ones."""

    logs: ClassVar[dict[str, str]] = LOGS
    strip: ClassVar[tuple[str, ...]] = ("picture", "seen by the encoder", "rebuilt")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.unit = patch_size(encoder, options)
        number = (encoder.image_size // self.unit) ** 2
        hidden = hidden_count(number, options.mask_ratio or (0.75 if encoder.is_vit else 0.6))
        self.painter: Painter = (
            TokenPainter(encoder, hidden, facts.channels, options.decoder_width, options.decoder_depth)
            if encoder.is_vit
            else MapPainter(encoder, hidden, facts.channels, self.unit)
        )
        pixels = self.unit**2 * facts.channels
        self.chance = (pixels - 1) / pixels if options.normalise else None  # of the mean of each patch

    @classmethod
    def check(cls, encoder: Encoder, options: Options, facts: Facts) -> None:
        """Refuse backbones that fit neither design, and patches that do not divide the picture."""
        check_backbone("mae", encoder)
        unit, own = patch_size(encoder, options), encoder.reductions[-1]
        if encoder.is_vit and unit != own:
            raise UserError(f"pretrain.options.unit: {encoder.name} cuts patches of {own} pixels; leave `unit` out")
        check_sizes("mae", encoder, unit)

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "image" (B, C, S, S) in [0, 1], and "order" (B, N) of its patches, of which the first stay visible."""
        images = placed(to_float(batch["image"]), batch["generator"], self.options)
        return {"image": images, "order": self.mask(len(images), batch["generator"])}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss: mean squared error over the pixels of hidden patches (He et al. 2022, section 3); and the `logs`."""
        images = views["image"]
        predicted, hidden = self.painter(self.encoder, images, views["order"])
        target = patchify(images, self.unit)
        if self.options.normalise:
            target = normalise_patches(target)[0]
        loss = masked_error(predicted.float(), target, hidden)
        few = slice(WATCHED)
        rebuilt = self.rebuild(images[few], predicted[few].detach(), hidden[few])
        return {"loss": loss} | quality(rebuilt, images[few], cover(hidden[few], self.unit))

    def mask(self, count: int, generator: Generator) -> Tensor:
        """A random order of the patches of each picture, (count, N); the first of them stay visible."""
        return random_order(count, (self.encoder.image_size // self.unit) ** 2, generator)

    def rebuild(self, images: Tensor, predicted: Tensor, hidden: Tensor) -> Tensor:
        """Pictures (B, C, S, S) with the hidden patches painted.

        A normalised patch gets its own mean and deviation back, as in the paper's figures: what is judged is its
        structure.
        """
        predicted = predicted.float()
        if self.options.normalise:
            _, mean, deviation = normalise_patches(patchify(images, self.unit))
            predicted = predicted * deviation + mean
        return rebuild(images, predicted, hidden, self.unit)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, what is left visible of it, and the whole with the hidden patches painted: (B, 3, C, S, S)."""
        images = to_float(batch["image"])
        predicted, hidden = self.painter(self.encoder, images, self.mask(len(images), batch["generator"]))
        return strip_of(images, self.rebuild(images, predicted, hidden), cover(hidden, self.unit))


def masked_error(predicted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error of patches (B, N, P) over the pixels of the hidden ones, `hidden` (B, N) bool."""
    error = (predicted - target).square().mean(dim=2)
    return (error * hidden).sum() / hidden.sum()


def patch_size(encoder: Encoder, options: Options) -> int:
    """Side of the patches that are hidden as one, in pixels."""
    return options.unit or (encoder.reductions[-1] if encoder.is_vit else base_unit(encoder))


METHOD = MAE
