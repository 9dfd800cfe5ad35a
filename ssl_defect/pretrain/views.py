"""Random views of industrial pictures, and their settings: what several methods share.

A view must not turn a good part into a defective one, nor hide a defect. So crops keep half of the picture or more,
blur is off (it hides hairline cracks), hue is never moved (colour may be the defect), and light varies as exposure
does.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from ssl_defect.config import Settings
from ssl_defect.data.augment import Crop, random_blur, random_geometry, random_light, random_noise, to_float
from ssl_defect.pretrain.ranges import Shares
from ssl_defect.train.plan import Batch


class GeometrySettings(Settings):
    """Where a view comes from."""

    crop: Shares = Field(
        (0.5, 1.0),
        description="Share of the area kept. From half on: a smaller crop often loses the part or its defect.",
    )
    flips: bool = Field(True, description="Mirror. Surfaces know no up and down; switch off where mirrored is wrong.")
    turns: bool = Field(True, description="Quarter turns, for the same reason.")


class ViewSettings(GeometrySettings):
    """Where a view comes from and how it is lit."""

    brightness: float = Field(
        0.3, ge=0, description="Log-range of a factor: exposure varies, a defect does not with it."
    )
    contrast: float = Field(0.3, ge=0, description="Log-range of a factor about the mean.")
    gamma: float = Field(0.2, ge=0, description="Log-range of the exponent.")
    noise: float = Field(0.02, ge=0, description="Greatest standard deviation of sensor noise, of a range of 1.")
    blur: float = Field(0.0, ge=0, description="Greatest sigma in pixels. Off: blur hides hairline cracks.")


class PartnerSettings(ViewSettings):
    """Two views, of a picture or of it and a near-copy, for methods without negatives."""

    groups: Literal["ignore", "positives"] = Field(
        "ignore",
        description="`positives`: the second view is of a near-copy, a change of exposure that no augmentation makes; "
        "`ignore`: both views are of one picture. There are no negatives in either.",
    )


def placed(images: Tensor, generator: Generator, options: GeometrySettings, size: int | None = None) -> Tensor:
    """A random crop, flip and turn of each picture (B, C, S, S) in [0, 1]: (B, C, size, size), size S where None."""
    crop = Crop(scale=options.crop, flips=options.flips, turns=options.turns, size=size)
    return random_geometry(len(images), images.shape[-1], generator, crop).apply(images)


def lit(images: Tensor, generator: Generator, options: ViewSettings) -> Tensor:
    """Each picture (B, C, S, S) in [0, 1] under random light, blur and noise of its own."""
    x = random_light(images, generator, options.brightness, options.contrast, options.gamma)
    return random_noise(random_blur(x, generator, options.blur), generator, options.noise)


def random_view(images: Tensor, generator: Generator, options: ViewSettings, size: int | None = None) -> Tensor:
    """One random view of each picture (B, C, S, S) in [0, 1]: `placed`, then `lit`."""
    return lit(placed(images, generator, options, size), generator, options)


def two_views(batch: Batch, options: ViewSettings) -> Tensor:
    """Two views of each picture: (B, 2, C, S, S) in [0, 1].

    The second is of the picture's near-copy where the batch brings "partner" (see `Method.partners`).
    """
    images = to_float(batch["image"])
    second = to_float(batch["partner"]) if "partner" in batch else images
    views = random_view(torch.stack([images, second], dim=1).flatten(0, 1), batch["generator"], options)
    return views.view(-1, 2, *views.shape[1:])
