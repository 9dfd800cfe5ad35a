"""Square pieces of pictures for tasks about where they lie, cleared of what would give the answer away."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ssl_defect.nets.backbones import Encoder
from ssl_defect.pretrain.base import refuse

FITTING = "backbones that take pictures of several sizes, such as ResNet, EfficientNet, ConvNeXt, RegNet and plain ViTs"


def cut(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Pieces (B, N, C, side, side) of pictures (B, C, S, S), moved as they are: nothing is interpolated.

    Args:
        top, left: (B, N) whole pixels of the upper left corners.
    """
    steps = torch.arange(side, device=images.device)
    rows, columns = (top.unsqueeze(2) + steps).unsqueeze(3), (left.unsqueeze(2) + steps).unsqueeze(2)
    numbers = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    return images.permute(0, 2, 3, 1)[numbers, rows, columns].permute(0, 1, 4, 2, 3)


def standardise(pieces: Tensor, least: float = 0.02) -> Tensor:
    """Each channel of each piece (B, N, C, s, s) less its mean, over its deviation.

    Neighbours have like means and deviations, which would tell them without a look at what is in them (Noroozi and
    Favaro 2016, section 3.3).

    Args:
        least: deviation that an even piece counts as having, so that its noise stays small.
    """
    mean = pieces.mean(dim=(3, 4), keepdim=True)
    deviation = (pieces.var(dim=(3, 4), keepdim=True, correction=0) + least**2).sqrt()
    return (pieces - mean) / deviation


def as_pictures(pieces: Tensor, size: int) -> Tensor:
    """Standardised pieces (B, N, C, s, s) as pictures (B, N, C, size, size) for an encoder, mostly in [0, 1]."""
    x = pieces * 0.2 + 0.5
    if size == x.shape[-1]:
        return x
    enlarged = functional.interpolate(x.flatten(0, 1), size=(size, size), mode="bilinear", align_corners=False)
    return enlarged.view(*x.shape[:3], size, size)


def piece_size(encoder: Encoder, side: int, method: str) -> int:
    """Pixels to enlarge pieces of `side` to: the stride of the last map at least, and what the encoder takes.

    Raises:
        UserError: the encoder takes pictures of its own size only, so that every piece would cost a whole picture.
    """
    stride = encoder.reductions[-1]
    for size in (max(side, stride), -(-side // stride) * stride):
        if encoder.accepts(size):
            return int(size)
    raise refuse(method, encoder, FITTING)
