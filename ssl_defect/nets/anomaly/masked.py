"""The error of a masked autoencoder: what is hidden is painted from the encoder's features of what is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.base import Pictures, enlarged
from ssl_defect.nets.anomaly.differences import Error, difference
from ssl_defect.nets.anomaly.layers import Residual, sized
from ssl_defect.nets.anomaly.options import LevelOptions, TrainedOptions
from ssl_defect.nets.anomaly.patches import levels_of
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.painters import TokenPainter
from ssl_defect.nets.patches import cover, hidden_count, random_order, unpatchify

CELLS = 16  # patches along a side where none is asked for, unless they would be smaller than
LEAST = 4  # pixels


class Options(LevelOptions, TrainedOptions):
    """Settings of the masked autoencoder."""

    mask_ratio: float = Field(0.5, gt=0, lt=1, description="Share of the patches that is hidden at a time.")
    passes: int = Field(4, ge=2, le=64, description="Masks at prediction; together they hide every patch.")
    patch: int | None = Field(
        None,
        ge=2,
        description="Side of a patch in pixels. A ViT's own; otherwise, left out, a sixteenth of the picture.",
    )
    width: int = Field(64, ge=16, le=1024, multiple_of=16, description="Channels of the decoder.")
    depth: int = Field(2, ge=1, le=12, description="Blocks of a ViT's decoder.")
    error: Error = Field("l2", description="What is measured: the squared difference, or 1 - SSIM (ssim).")
    batch_size: int = Field(16, ge=2, description="Images per step; BatchNorm needs two.")
    learning_rate: float = Field(5e-3, gt=0, le=1, description="Peak of a cosine, AdamW.")
    mask_seed: int = Field(0, ge=0, description="Of the masks at prediction.")

    @model_validator(mode="after")
    def _complete(self) -> Options:
        if self.mask_ratio * self.passes < 1:
            raise ValueError("mask_ratio times passes must be at least 1, or some patches are never hidden")
        return self


class MaskedAutoencoder(TrainedHead):
    """A decoder paints hidden patches (He et al. 2022, arXiv:2111.06377) upon an encoder that stays as it is.

    A plain ViT sees the visible patches alone. Any other backbone sees the mean of the good pictures in the place of
    the hidden ones; a fixed value, since a learned one would need gradients through the whole encoder. At prediction
    several masks take turns until each patch was hidden (as in Zavrtanik et al. 2021, Reconstruction by inpainting for
    visual anomaly detection): they are the same for all pictures, so that a score depends on its picture alone.

    Options:
        strides: of the maps that a CNN's decoder looks at.
        mask_ratio: share of the patches that is hidden at a time.
        passes: masks at prediction.
        patch: side of a patch in pixels.
        width, depth: of the decoder.
        error: `l2` or `ssim`.
        mask_seed: of the masks at prediction.
    """

    fill: Tensor
    orders: Tensor

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.error: Error = options["error"]
        self.patch = patch_of(encoder, options["patch"])
        number = (-(-encoder.image_size // self.patch)) ** 2
        self.hidden = max(hidden_count(number, options["mask_ratio"]), -(-number // options["passes"]))
        self.painter: nn.Module = (
            TokenPainter(encoder, self.hidden, 3, options["width"], options["depth"])
            if encoder.is_vit
            else HiddenPainter(encoder, levels_of(encoder, options["strides"]), options["width"])
        )
        self.register_buffer("fill", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("orders", complementary(number, options["passes"], options["mask_seed"]))

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """The mean of the good pictures."""
        total, seen = torch.zeros(3, dtype=torch.float64), 0
        for x in pictures():
            total += x.double().mean(dim=(2, 3)).sum(dim=0).cpu()
            seen += len(x)
        self.fill.copy_((total / seen).view(1, 3, 1, 1))

    def loss(self, encoder: Encoder, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean squared error over the hidden pixels, each picture with a mask of its own."""
        order = random_order(len(x), self.orders.shape[1], generator)
        painted, hidden = self.painted(encoder, x, order)
        error = difference(x, painted, "l2")[:, None]
        return {"loss": (error * hidden).sum() / hidden.sum()}

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distances" (B, S, S) of the pixels, and "distance" (B,), the maximum of the smoothed map."""
        distances = difference(x, self.rebuilt(encoder, x), self.error)
        return {"distance": enlarged(distances, self.size).amax(dim=(1, 2)), "distances": distances}

    def rebuilt(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Pictures (B, 1 or 3, S, S) as painted where they were hidden, the mean over the masks that hid a pixel."""
        total, times = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        for order in self.orders:
            painted, hidden = self.painted(encoder, x, order.expand(len(x), -1))
            total, times = total + painted * hidden, times + hidden
        return total / times

    def painted(self, encoder: Encoder, x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Whole pictures (B, 1 or 3, S, S) as painted, and which pixels were hidden: bool (B, 1, S, S).

        Args:
            x: (B, 1 or 3, S, S) in [0, 1].
            order: (B, N) of the patches; the last `hidden` of them are not seen.
        """
        last = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, -self.hidden :], True)
        hidden = cover(last, self.patch)[:, :, : self.size, : self.size]
        if isinstance(self.painter, TokenPainter):
            found = unpatchify(self.painter(encoder, x, order)[0], self.patch)
        else:
            found = self.painter(encoder, torch.where(hidden, self.fill, x))
        return found.float() if x.shape[1] == 3 else found.float().mean(dim=1, keepdim=True), hidden


class HiddenPainter(nn.Module):
    """From maps of an encoder, coarsest first, to the picture; each cell of the finest paints the pixels under it.

    Args:
        encoder: whose maps they are.
        levels: of its pyramid, finest first.
        width: channels of every level.
    """

    def __init__(self, encoder: Encoder, levels: list[int], width: int) -> None:
        super().__init__()
        self.levels, self.stride = levels, encoder.reductions[levels[0]]
        above = [width] * (len(levels) - 1) + [0]
        self.mix = nn.ModuleList(
            Residual(encoder.channels[i] + more, width) for i, more in zip(levels, above, strict=True)
        )
        self.leave = nn.Conv2d(width, self.stride**2 * 3, 1)

    def forward(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) with something in the place of what is hidden -> whole pictures (B, 3, S, S)."""
        size = x.shape[-1]
        side = -(-size // self.stride)
        with torch.no_grad():
            pyramid = encoder.pyramid(x)
            maps = [pyramid[level] for level in self.levels]
        features = self.mix[-1](maps[-1])
        for mix, finer in zip(reversed(self.mix[:-1]), reversed(maps[:-1]), strict=True):
            features = mix(torch.cat([sized(features, finer.shape[-2:]), finer], dim=1))
        painted = F.pixel_shuffle(self.leave(sized(features, (side, side))), self.stride)
        return painted[:, :, :size, :size]


def patch_of(encoder: Encoder, asked: int | None) -> int:
    """Side of a patch, in pixels.

    Raises:
        UserError: a ViT cuts other patches, or there would be fewer than two along a side.
    """
    own, size = encoder.reductions[-1], encoder.image_size
    patch = asked or (own if encoder.is_vit else max(LEAST, size // CELLS))
    if encoder.is_vit and patch != own:
        raise UserError(f"anomaly.options.patch: {encoder.name} cuts patches of {own} pixels; leave `patch` out")
    if size <= patch:
        raise UserError(
            f"anomaly.options.patch: patches of {patch} pixels leave nothing to see in pictures of {size}; "
            f"take one below {size}, or a larger data.image_size"
        )
    return patch


def complementary(number: int, passes: int, seed: int) -> Tensor:
    """Orders (passes, number) of patches whose last n each, for any n >= number / passes, together are all patches.

    One random order, turned on by a share of its length from pass to pass.
    """
    order = random_order(1, number, torch.Generator().manual_seed(seed))[0]
    return torch.stack([order.roll(-(number * turn // passes)) for turn in range(passes)])


HEADS = {"mae": MaskedAutoencoder}
OPTIONS = {"mae": Options}
