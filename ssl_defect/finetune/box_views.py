"""What a picture with boxes is shown as in training: picture, boxes and parts moved by one geometry."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_defect.data.augment import Crop, Geometry, random_geometry, random_light, to_float
from ssl_defect.finetune.views import RATIO, Views


def show_with_geometry(images: Tensor, views: Views, draw: torch.Generator) -> tuple[Tensor, Geometry]:
    """As `finetune.views.show`, with the geometry that moves what belongs to the pictures.

    Args:
        images: uint8 (B, C, S, S).

    Returns:
        Pictures float32 (B, C, S, S) in [0, 1].
    """
    crop = Crop((views.crop, 1.0), RATIO if views.crop < 1 else (1.0, 1.0), views.flips, views.turns)
    geometry = random_geometry(len(images), images.shape[-1], draw, crop)
    return random_light(geometry.apply(to_float(images)), draw, views.brightness, views.contrast, 0.0), geometry
