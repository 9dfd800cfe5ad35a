"""Pictures cut into square patches and put together again, random masks over them, and fixed positions."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def patchify(images: Tensor, patch: int) -> Tensor:
    """(B, C, S, S) -> (B, N, patch * patch * C), N = (S / patch)^2 in reading order, pixels in reading order."""
    count, channels, size, _ = images.shape
    side = size // patch
    x = images.reshape(count, channels, side, patch, side, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(count, side * side, patch * patch * channels)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify`: (B, N, patch * patch * C) -> (B, C, S, S)."""
    count, number, width = patches.shape
    side, channels = round(number**0.5), width // patch**2
    x = patches.reshape(count, side, side, patch, patch, channels)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(count, channels, side * patch, side * patch)


def cover(hidden: Tensor, unit: int) -> Tensor:
    """Which pixels (B, 1, S, S) lie in the hidden patches (B, N) of `unit` pixels; bool."""
    side = round(hidden.shape[1] ** 0.5)
    return hidden.view(-1, 1, side, side).repeat_interleave(unit, 2).repeat_interleave(unit, 3)


def normalise_patches(patches: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor, Tensor]:
    """Each patch less its mean, over its standard deviation (He et al. 2022, section 3, reconstruction target).

    Args:
        patches: (B, N, P).

    Returns:
        Normalised patches, mean (B, N, 1) and deviation (B, N, 1).
    """
    mean = patches.mean(dim=2, keepdim=True)
    deviation = (patches.var(dim=2, keepdim=True) + epsilon).sqrt()
    return (patches - mean) / deviation, mean, deviation


def random_order(count: int, number: int, generator: Generator) -> Tensor:
    """A random order (count, number) of `number` patches for each of `count` pictures."""
    return torch.rand(count, number, generator=generator, device=generator.device).argsort(dim=1)


def block_mask(count: int, side: int, hidden: int, generator: Generator) -> Tensor:
    """Masks of overlapping blocks over `count` grids (Bao et al. 2022, algorithm 1): (count, side * side) bool.

    Blocks of random area and proportions are laid until enough is covered; of the last one only the first rows
    count, so that every picture has exactly `hidden` hidden patches. The paper's least block, 16 of 196 patches, is
    the same share here. Proportions are drawn as in its code: uniform in their logarithm.
    """
    number, blocks = side * side, 12  # five or six are enough as a rule; what is missing then is filled up
    least = max(1, round(number * 16 / 196))
    draw = torch.rand(blocks, 4, count, 1, generator=generator, device=generator.device)
    cells = torch.arange(side, device=draw.device)
    first = torch.full((count, side, side), blocks, device=draw.device)
    for block, (u, v, y, x) in enumerate(draw):
        room = hidden - (first < blocks).sum(dim=(1, 2)).unsqueeze(1)
        area = least + u * (room - least).clamp(min=0)
        stretch = torch.exp((2 * v - 1) * math.log(1 / 0.3) / 2)
        height, width = ((area.sqrt() * by).round().clamp(1, side) for by in (stretch, 1 / stretch))
        top, left = (y * (side - height + 1)).floor(), (x * (side - width + 1)).floor()
        rows, columns = (cells >= top) & (cells < top + height), (cells >= left) & (cells < left + width)
        fresh = rows.unsqueeze(2) & columns.unsqueeze(1) & (first == blocks)
        first = first.masked_fill(fresh, block)
    order = first.flatten(1).argsort(dim=1, stable=True)
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :hidden], True)


def hidden_count(number: int, ratio: float) -> int:
    """How many of `number` patches a mask of that ratio hides: rounded, at least one hidden and one visible."""
    return min(max(round(number * ratio), 1), number - 1)


def sincos_positions(side: int, width: int) -> Tensor:
    """Fixed two-dimensional sine-cosine positions (1, side * side, width); width is a multiple of 4.

    Half of the features hold the row and half the column, each as sines and cosines of geometrically falling
    frequencies (Vaswani et al. 2017, section 3.5).
    """
    frequencies = 10000 ** -(torch.arange(width // 4) / (width / 4))
    angles = torch.arange(side)[:, None] * frequencies
    one = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = one[:, None, :].expand(side, side, -1)
    columns = one[None, :, :].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(1, side * side, width)
