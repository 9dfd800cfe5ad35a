"""Multi-crop: two views of the whole picture, several small ones of its parts, and the loss between them.

(Caron, Misra, Mairal, Goyal, Bojanowski, Joulin: Unsupervised learning of visual features by contrasting cluster
assignments, NeurIPS 2020, section 3.3.)
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ssl_defect.data.augment import Crop, random_geometry, to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.pretrain.base import Views
from ssl_defect.pretrain.ranges import Shares
from ssl_defect.pretrain.views import ViewSettings, lit, two_views
from ssl_defect.train.plan import Batch

STRIP = ("picture", "a global view", "another global view", "a local view")


class MultiCropSettings(ViewSettings):
    """Where views of both sizes come from. The global ones are those of any method with two views."""

    local_crops: int = Field(
        4,
        ge=0,
        description="Small views of a picture. At half the side four of them cost as much as one global view, so a "
        "step takes half as long again as with two views alone; the published 6 to 8 double it.",
    )
    local_crop: Shares = Field(
        (0.25, 0.5),
        description="Share of the area in a small view. A quarter at half the side is the picture at its own "
        "resolution, so that a crack keeps its width; the published 0.05 would show texture alone, and teach that a "
        "part with its defect and a spot without it are the same.",
    )
    local_size: int | None = Field(
        None, ge=8, description="Side of a small view; left out: half of the picture's, or the nearest that fits."
    )
    groups: Literal["ignore", "positives"] = Field(
        "ignore",
        description="`positives`: the second global view and half of the local ones are of a near-copy of the picture.",
    )


def local_size(encoder: Encoder, wanted: int | None) -> int:
    """Side of the small views, in pixels: the one wanted, or of those that fit the encoder the nearest to half.

    A size fits if the encoder accepts it and its last map is one cell or more: below that it sees padding for the
    most part (and bfloat16 convolutions of a 1 x 1 map by a stride of 2 give gradients that are no numbers on a CPU).

    Raises:
        UserError: the one wanted does not fit, or is larger than the picture.
    """
    least, most = min(encoder.reductions[-1], encoder.image_size), encoder.image_size
    size = wanted or most // 2
    nearest = sorted(range(least, most + 1), key=lambda other: abs(other - size))
    fits = next(other for other in nearest if encoder.accepts(other))
    if wanted is None or wanted == fits:
        return fits
    raise UserError(
        f"pretrain.options.local_size: views of {wanted} pixels do not fit {encoder.name} and pictures of {most} "
        f"pixels; take {fits}, or leave it out"
    )


def multi_crop(batch: Batch, options: MultiCropSettings, size: int) -> Views:
    """Views in [0, 1]: "global" (B, 2, C, S, S), and "local" (B, n, C, size, size) where n is not 0.

    Where the batch brings "partner", the second global view and the later half of the local ones are of it.
    """
    views = {"global": two_views(batch, options)}
    if options.local_crops:
        views["local"] = _local_views(batch, options, size)
    return views


def encode(encoder: Encoder, views: Views) -> Tensor:
    """Features (B, V, width) of all views, the global ones first; one pass for each size."""
    parts = [views[name] for name in ("global", "local") if name in views]
    return torch.cat([encoder(part.flatten(0, 1)).unflatten(0, part.shape[:2]) for part in parts], dim=1)


def cross_view_entropy(targets: Tensor, predicted: Tensor) -> Tensor:
    """Mean cross-entropy of each target with the predictions of all other views of the same picture.

    (Caron et al. 2020, eq. 2 and 6; Caron et al. 2021, eq. 3.)

    Args:
        targets: (B, T, K) shares that sum to 1, of the first T views; no gradient flows through them.
        predicted: (B, V, K) log-probabilities of all views, V > 1.

    Returns:
        A scalar >= 0.
    """
    table = torch.einsum("btk,bvk->tv", targets.detach(), predicted)
    terms = table.numel() - min(table.shape)
    return (table.trace() - table.sum()) / (terms * len(targets))


def strip(batch: Batch, options: MultiCropSettings, size: int) -> Tensor:
    """Each picture, its two global views and a local one, enlarged (grey if none): (B, 4, C, S, S)."""
    images, views = to_float(batch["image"]).unsqueeze(1), multi_crop(batch, options, size)
    small = torch.full_like(images, 0.5)
    if "local" in views:
        small = functional.interpolate(views["local"][:, 0], size=images.shape[-2:], mode="nearest").unsqueeze(1)
    return torch.cat([images, views["global"], small], dim=1)


def _local_views(batch: Batch, options: MultiCropSettings, size: int) -> Tensor:
    images, number = to_float(batch["image"]), options.local_crops
    sources = images.unsqueeze(1).expand(-1, number, -1, -1, -1)
    if "partner" in batch:
        copies = to_float(batch["partner"]).unsqueeze(1).expand(-1, number // 2, -1, -1, -1)
        sources = torch.cat([sources[:, number // 2 :], copies], dim=1)
    sources = sources.flatten(0, 1)
    crop = Crop(scale=options.local_crop, flips=options.flips, turns=options.turns, size=size)
    placed = random_geometry(len(sources), images.shape[-1], batch["generator"], crop).apply(sources)
    views = lit(placed, batch["generator"], options)
    return views.view(-1, number, *views.shape[1:])
