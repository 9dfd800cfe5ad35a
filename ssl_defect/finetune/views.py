"""What a labelled picture is shown as in training: moved together with its mask, and lit a little differently."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ssl_defect.config import Settings
from ssl_defect.data.augment import Crop, random_geometry, random_light, to_float

RATIO = (0.9, 1.1)  # width by height of a crop
COVERED = 0.25 - 1e-4  # a defect of one pixel between four pixels of the view covers a quarter of each


class Views(Settings):
    """Augmentation of labelled pictures; every task has these options."""

    flips: bool = Field(True, description="Mirror at random.")
    turns: bool = Field(True, description="Turn by a random multiple of 90 degrees.")
    crop: float = Field(0.7, gt=0, le=1, description="Least share of the picture's area that a random crop keeps.")
    brightness: float = Field(0.1, ge=0, le=1, description="Strength x of the light: a factor in [exp(-x), exp(x)].")
    contrast: float = Field(0.2, ge=0, le=1, description="Strength x of the contrast: a factor in [exp(-x), exp(x)].")


def show(images: Tensor, masks: Tensor | None, views: Views, draw: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """A random view of each picture of a batch; the mask goes wherever the picture goes.

    Crops only enlarge, and a cell of the moved mask is defective from a quarter of coverage on. So no defect of one
    pixel is lost unless it lies outside the crop.

    Args:
        images: uint8 (B, C, S, S) in [0, 255].
        masks: (B, 1, S, S) of 0 and 1, any dtype, or None.
        draw: a generator on the images' device.

    Returns:
        Pictures float32 (B, C, S, S) in [0, 1], and masks float32 (B, 1, S, S) of 0 and 1.
    """
    crop = Crop((views.crop, 1.0), RATIO if views.crop < 1 else (1.0, 1.0), views.flips, views.turns)
    geometry = random_geometry(len(images), images.shape[-1], draw, crop)
    moved = random_light(geometry.apply(to_float(images)), draw, views.brightness, views.contrast, 0.0)
    if masks is None:
        return moved, None
    return moved, (geometry.apply(masks) >= COVERED).float()
