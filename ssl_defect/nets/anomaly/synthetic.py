"""A decoder that outlines synthetic defects on good pictures, after DRAEM, Zavrtanik et al. 2021 (arXiv:2108.07610)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_defect.data.defects import Look, draw_defects
from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.base import Pictures
from ssl_defect.nets.anomaly.options import Options as BaseOptions
from ssl_defect.nets.anomaly.options import TrainedOptions
from ssl_defect.nets.anomaly.patches import around
from ssl_defect.nets.anomaly.scaling import Scaling, measure
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.decoders import build_decoder
from ssl_defect.nets.heads import PRIOR
from ssl_defect.nets.mask_losses import binary_focal_loss, dice_loss

LIFT = math.log(1e4)  # added to the logits: a probability of 1e-4 is near a distance of 1, and 0.5 near 9


class Options(BaseOptions, TrainedOptions):
    """Settings of outlining synthetic defects. The loss is `dice * Dice + focal * focal loss`."""

    decoder: Literal["unet", "fcn", "fpn", "deeplabv3plus"] = Field("unet", description="As in finetune.options.")
    decoder_width: int = Field(16, ge=8, le=512, multiple_of=8, description="Channels of the decoder's finest level.")
    kinds: tuple[Literal["blob", "crack", "spot", "patch"], ...] = Field(
        ("blob", "crack", "spot", "patch"),
        min_length=1,
        description="Shapes of defects, equally frequent; leave out what your parts cannot have.",
    )
    area: tuple[float, float] = Field(
        (0.00005, 0.25),
        description="Least and greatest share of the picture that a defect covers, log-uniform; never below 4 pixels.",
    )
    difference: tuple[float, float] = Field(
        (0.06, 0.5), description="Least and greatest change of brightness, of a range of 1, log-uniform."
    )
    most: int = Field(3, ge=1, le=16, description="Defects in a picture at most.")
    good: float = Field(0.2, ge=0, lt=1, description="Share of the pictures of a step that stay good.")
    dice: float = Field(1.0, ge=0, description="Weight of the Dice loss over the batch.")
    focal: float = Field(20.0, ge=0, description="Weight of the focal loss.")

    @field_validator("area", "difference")
    @classmethod
    def _within(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] <= 0.5:
            raise ValueError("give two rising numbers above 0, the second at most 0.5")
        return value


class Synthetic(TrainedHead):
    """A decoder over the frozen encoder's maps, taught by defects that are drawn on good pictures, masks exact.

    Of DRAEM it has the discriminative part alone: no subnetwork that reconstructs the good picture, and the decoder
    sees features of the encoder instead of the picture and its reconstruction. The defects are those of
    `data.defects`, of more shapes and looks than DRAEM's texture under Perlin noise, and to the focal loss Dice is
    added.

    A pixel's distance is `softplus(logit + log 1e4)`, above 0; odds themselves would span so many powers of ten
    that scores in float32 could not tell defects apart. The image's is the largest mean over 3 x 3 pixels.

    Options:
        decoder, decoder_width: see `build_decoder`.
        kinds, area, difference, most, good: of the defects, see `data.defects.Look`.
        dice, focal: weights of the losses.
    """

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.scalings = nn.ModuleList(Scaling(width) for width in encoder.channels)
        try:
            self.decoder = build_decoder(options["decoder"], encoder, options["decoder_width"])
        except UserError as error:  # it speaks of finetune
            raise UserError(str(error).replace("finetune.", "anomaly.", 1)) from error
        self.last = nn.Conv2d(options["decoder_width"], 1, 1)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, math.log(PRIOR / (1 - PRIOR)))
        kinds, area, difference = (tuple(options[name]) for name in ("kinds", "area", "difference"))
        self.look = Look(kinds, area, options["most"], options["good"], difference)

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Measure the scale of every map."""
        measure([s for s in self.scalings if isinstance(s, Scaling)], (encoder.pyramid(x) for x in pictures()))

    def loss(self, encoder: Encoder, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Of pictures with defects drawn on them; its parts are "dice" and "focal"."""
        blemished, masks = draw_defects(x, generator, self.look)
        logits = self.logits(encoder, blemished)
        dice, focal = dice_loss(logits, masks), binary_focal_loss(logits, masks)
        total = self.options["dice"] * dice + self.options["focal"] * focal
        return {"loss": total, "dice": dice.detach(), "focal": focal.detach()}

    def logits(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Pictures (B, C, S, S) in [0, 1] -> logits of a defect (B, 1, S, S)."""
        with torch.no_grad():
            maps = [scale(m) for scale, m in zip(self.scalings, encoder.pyramid(x), strict=True)]
        height, width = x.shape[-2:]
        found: Tensor = self.last(self.decoder(maps, (height, width)))
        return found

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,) and "distances" (B, S, S)."""
        distances = F.softplus(self.logits(encoder, x).float() + LIFT)
        return {"distance": around(distances).flatten(1).amax(dim=1), "distances": distances[:, 0]}


HEADS = {"synthetic": Synthetic}
OPTIONS = {"synthetic": Options}
