"""What a labelled picture is shown as in training: moved together with its mask, and lit a little differently."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.config import Settings


class Views(Settings):
    """Augmentation of labelled pictures; every task has these options."""

    flips: bool = Field(True, description="Mirror at random.")
    turns: bool = Field(True, description="Turn by a random multiple of 90 degrees.")
    zoom: float = Field(0.8, gt=0, le=1, description="Smallest side of the random crop, as a share of the picture's.")
    brightness: float = Field(0.1, ge=0, lt=1, description="Largest shift of the grey levels, of a range of 1.")
    contrast: float = Field(0.2, ge=0, lt=1, description="Largest relative change of the contrast.")


def show(images: Tensor, masks: Tensor | None, views: Views, draw: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """A random view of each picture of a batch; the mask goes wherever the picture goes.

    Turn, mirror and crop are one resampling. Crops only enlarge, so that nearest-neighbour sampling of the mask
    loses no defect of one pixel unless it lies outside the crop.

    Args:
        images: uint8 (B, C, S, S) in [0, 255].
        masks: (B, 1, S, S) of 0 and 1, any dtype, or None.
        draw: a generator on the images' device.

    Returns:
        Pictures float32 (B, C, S, S) in [0, 1], and masks float32 (B, 1, S, S) of 0 and 1.
    """
    x = images.float() / 255
    grid = F.affine_grid(_motions(len(x), views, draw), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    lit = _light(moved, views, draw)
    if masks is None:
        return lit, None
    return lit, F.grid_sample(masks.float(), grid, mode="nearest", align_corners=False)


def _motions(count: int, views: Views, draw: torch.Generator) -> Tensor:
    """(B, 2, 3) matrices from places in the view to places in the picture, both in [-1, 1]."""
    at = draw.device
    turn = torch.randint(4 if views.turns else 1, (count,), generator=draw, device=at)
    mirror = 1.0 - 2 * torch.randint(2 if views.flips else 1, (count,), generator=draw, device=at)
    side = 1 - (1 - views.zoom) * torch.rand(count, generator=draw, device=at)
    cos = torch.tensor([1.0, 0.0, -1.0, 0.0], device=at)[turn] * side
    sin = torch.tensor([0.0, 1.0, 0.0, -1.0], device=at)[turn] * side
    turned = torch.stack([torch.stack([mirror * cos, -sin], dim=1), torch.stack([mirror * sin, cos], dim=1)], dim=1)
    shift = (1 - side)[:, None] * (2 * torch.rand(count, 2, generator=draw, device=at) - 1)
    return torch.cat([turned, shift[:, :, None]], dim=2)


def _light(x: Tensor, views: Views, draw: torch.Generator) -> Tensor:
    change = 2 * torch.rand(2, len(x), 1, 1, 1, generator=draw, device=draw.device) - 1
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * (1 + views.contrast * change[0]) + mean + views.brightness * change[1]).clamp(0, 1)
