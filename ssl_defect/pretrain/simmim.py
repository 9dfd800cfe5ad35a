"""SimMIM (Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu: SimMIM, a simple framework for masked image modeling, 2022).

Everything passes through the encoder: a plain ViT gets a learned token in the place of each hidden patch, any other
backbone gets the picture with a learned value in its holes. One linear layer predicts the hidden pixels.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ssl_defect.data.augment import to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.painters import LinearPainter, MapPainter, Painter
from ssl_defect.nets.patches import cover, hidden_count, patchify, random_order
from ssl_defect.pretrain.base import Facts, Method, Views
from ssl_defect.pretrain.masking import base_unit, check_backbone, check_sizes, rebuild, strip_of
from ssl_defect.pretrain.quality import LOGS, WATCHED, quality
from ssl_defect.pretrain.views import GeometrySettings, placed
from ssl_defect.train.plan import Batch


class Options(GeometrySettings):
    """Settings of SimMIM."""

    mask_ratio: float = Field(
        0.6,
        gt=0,
        lt=1,
        description="Share of the picture that is hidden. The published 0.6: less can be filled in from the "
        "neighbouring pixels, more leaves too little of a part to tell its place.",
    )
    unit: int | None = Field(
        None,
        ge=4,
        description="Side of what is hidden as one, in pixels; a multiple of a ViT's patch. Left out: the published "
        "32, or 16 below 192-pixel pictures, where 32 leaves a handful of patches and is wider than most defects.",
    )


class SimMIM(Method):
    """Hidden pixels are predicted by one linear layer."""

    logs: ClassVar[dict[str, str]] = LOGS
    strip: ClassVar[tuple[str, ...]] = ("picture", "seen by the encoder", "rebuilt")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.unit = mask_unit(encoder, options)
        self.number = (encoder.image_size // self.unit) ** 2
        hidden = hidden_count(self.number, options.mask_ratio)
        kind = LinearPainter if encoder.is_vit else MapPainter
        self.painter: Painter = kind(encoder, hidden, facts.channels, self.unit)

    @classmethod
    def check(cls, encoder: Encoder, options: Options, facts: Facts) -> None:
        """Refuse backbones without patches or a pyramid, and mask patches that do not divide the picture."""
        check_backbone("simmim", encoder)
        unit, own = mask_unit(encoder, options), encoder.reductions[-1]
        if encoder.is_vit and unit % own:
            raise UserError(
                f"pretrain.options.unit: {encoder.name} cuts patches of {own} pixels and simmim hides whole ones; "
                f"got {unit}, take {max(unit // own, 1) * own}"
            )
        check_sizes("simmim", encoder, unit)

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "image" (B, C, S, S) in [0, 1], and "order" (B, N) of its patches, of which the last are hidden."""
        images = placed(to_float(batch["image"]), batch["generator"], self.options)
        return {"image": images, "order": random_order(len(images), self.number, batch["generator"])}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss: `hidden_l1` of the normalised pixels; and the `logs`."""
        images = views["image"]
        predicted, hidden = self.painter(self.encoder, images, views["order"])
        loss = hidden_l1(predicted.float(), self.normalise(patchify(images, self.unit)), hidden)
        few = slice(WATCHED)
        rebuilt = self.rebuild(images[few], predicted[few].detach(), hidden[few])
        return {"loss": loss} | quality(rebuilt, images[few], cover(hidden[few], self.unit))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] in the encoder's units: about zero mean and deviation 1, as in the paper's code."""
        return (pixels - self.encoder.mean.mean()) / self.encoder.std.mean()

    def rebuild(self, images: Tensor, predicted: Tensor, hidden: Tensor) -> Tensor:
        """Pictures (B, C, S, S) in [0, 1] with the hidden patches painted."""
        predicted = predicted.float() * self.encoder.std.mean() + self.encoder.mean.mean()
        return rebuild(images, predicted, hidden, self.unit)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, what is left visible of it, and the whole with the hidden patches painted: (B, 3, C, S, S)."""
        images = to_float(batch["image"])
        order = random_order(len(images), self.number, batch["generator"])
        predicted, hidden = self.painter(self.encoder, images, order)
        return strip_of(images, self.rebuild(images, predicted, hidden), cover(hidden, self.unit))


def hidden_l1(predicted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean absolute error over the hidden pixels (Xie et al. 2022, section 3.4: |y_M - x_M|_1 / Omega(x_M)).

    Args:
        predicted, target: patches (B, N, P).
        hidden: (B, N) bool.
    """
    error = (predicted - target).abs().mean(dim=2)
    return (error * hidden).sum() / hidden.sum()


def mask_unit(encoder: Encoder, options: Options) -> int:
    """Side of what is hidden as one, in pixels: left out, as many whole patches of a ViT as fit into `base_unit`."""
    own = encoder.reductions[-1] if encoder.is_vit else 1
    return options.unit or max(base_unit(encoder) // own, 1) * own


METHOD = SimMIM
