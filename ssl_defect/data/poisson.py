"""Pieces of other pictures blended in without a seam: Poisson image editing (Perez, Gangnet, Blake 2003), batched.

The equation on a rectangle is diagonal under sine transforms, so it is solved exactly by four small matrix products,
for a whole batch of rectangles of different sizes at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ssl_defect.data.augment import resample_weights


@dataclass(frozen=True)
class Patches:
    """A rectangle per picture, and what it is filled from.

    Attributes:
        corner: (B, 2) first row and column, at least 1, so that a ring of the picture lies around it.
        sides: (B, 2) height and width in whole pixels, at most `most`.
        source: (B, 2) first row and column of the ring's counterpart in the other picture; may be fractional, and
            leaves room for `(most + 2) / scale` pixels.
        scale: (B,) how much larger the piece is pasted than it was cut out.
        most: greatest side there can be, in pixels.
    """

    corner: Tensor
    sides: Tensor
    source: Tensor
    scale: Tensor
    most: int


def random_patches(
    count: int, size: int, generator: Generator, sides: tuple[float, float], scale: tuple[float, float]
) -> Patches:
    """Rectangles within pictures of `size` pixels, most of them small (Schlueter et al. 2022, section 3.1).

    Args:
        sides: least and greatest side as a share of the picture's; each follows a Gamma distribution of shape 2 and
            scale 0.1, clamped to that, 3 pixels at least.
        scale: least and greatest factor of resizing, log-uniform; the greatest side over it has to fit the picture.
    """
    draw = torch.rand(count, 9, generator=generator, device=generator.device)
    most = min(max(3, int(sides[1] * size)), size - 2)
    gamma = -0.1 * (1 - draw[:, :2]).mul(1 - draw[:, 2:4]).log()
    side = (gamma.clamp(*sides) * size).round().clamp(min(3, most), most)
    factor = (math.log(scale[0]) + draw[:, 4] * math.log(scale[1] / scale[0])).exp()
    corner = 1 + (draw[:, 5:7] * (size - 1 - side)).floor()
    source = draw[:, 7:9] * (size - (most + 2) / factor.clamp(min=(most + 2) / size)).unsqueeze(1)
    return Patches(corner, side, source, factor.clamp(min=(most + 2) / size), most)


def blend(images: Tensor, others: Tensor, patches: Patches, mixed: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures with a piece of another one each, its gradients kept and its border that of the picture.

    What lies outside of the rectangles stays bit for bit.

    Args:
        images, others: (B, C, S, S) in [0, 1].
        mixed: (B,) bool: keep the picture's own gradient where it is the steeper one (Perez et al. 2003, eq. 12),
            instead of the piece's everywhere (eq. 11).

    Returns:
        Pictures (B, C, S, S) in [0, 1], and which pixels lie in the rectangles, (B, 1, S, S) bool.
    """
    channels, size = images.shape[1], images.shape[3]
    ring = patches.most + 2
    with torch.autocast(images.device.type, enabled=False):
        result = images.float().flatten(2).clone()
        cells = _cells(patches.corner - 1, ring, size).expand(-1, channels, -1, -1)
        here = result.gather(2, cells.flatten(2)).view_as(cells)
        there = _sample(others.float(), patches, ring)
        change = dirichlet(_guidance(here, there, mixed), patches.sides)
        # beyond a rectangle `change` is 0, so cells that are met twice there stay as they were
        result.scatter_add_(2, cells[:, :, 1:-1, 1:-1].flatten(2), change.flatten(2))
        return result.clamp_(0, 1).view_as(images), _inside(patches.corner, patches.sides, size)


def dirichlet(right: Tensor, sides: Tensor) -> Tensor:
    """The field whose 5-point Laplacian is `right` on a rectangle, with zeros around it.

    Args:
        right: (B, C, P, P), of which the first `sides` rows and columns count.
        sides: (B, 2) height and width of each rectangle, at most P.

    Returns:
        (B, C, P, P), 0 outside of the rectangles.
    """
    span = right.shape[-1]
    number = torch.arange(1, span + 1, device=right.device, dtype=right.dtype)
    sines, roots = [], []
    for axis in (0, 1):
        side = sides[:, axis].to(right.dtype).view(-1, 1, 1)
        there = (number <= side).squeeze(1)
        wave = torch.sin(math.pi / (side + 1) * number.view(1, -1, 1) * number.view(1, 1, -1))
        wave = wave * (2 / (side + 1)).sqrt() * there.unsqueeze(1) * there.unsqueeze(2)  # orthogonal, its own inverse
        sines.append(wave.unsqueeze(1))
        roots.append(-4 * torch.sin(math.pi / 2 / (side.squeeze(2) + 1) * number).square())
    values = torch.where(
        (number <= sides[:, :1, None]).transpose(1, 2) & (number <= sides[:, 1:, None]),
        roots[0].unsqueeze(2) + roots[1].unsqueeze(1),
        1.0,
    )
    return sines[0] @ (sines[0] @ right @ sines[1] / values.unsqueeze(1)) @ sines[1]


def _guidance(here: Tensor, there: Tensor, mixed: Tensor) -> Tensor:
    """Laplacian (B, C, P, P) that the change of `here` (B, C, P + 2, P + 2) is to have, given the piece `there`."""
    flows = []
    for axis in (2, 3):
        own, foreign = here.diff(dim=axis), there.diff(dim=axis)
        kept = mixed.view(-1, 1, 1, 1) & (own.abs() > foreign.abs())
        flows.append((foreign - own).masked_fill_(kept, 0))
    return flows[0].diff(dim=2)[:, :, :, 1:-1] + flows[1].diff(dim=3)[:, :, 1:-1]


def _cells(first: Tensor, span: int, size: int) -> Tensor:
    """Numbers, in reading order, of the span x span cells from `first` (B, 2) on: (B, 1, span, span)."""
    places = (first.long().unsqueeze(2) + torch.arange(span, device=first.device)).clamp(max=size - 1)
    return (places[:, 0, :, None] * size + places[:, 1, None, :]).unsqueeze(1)


def _sample(others: Tensor, patches: Patches, ring: int) -> Tensor:
    """The resized pieces (B, C, ring, ring) of other pictures (B, C, S, S)."""
    count, channels, size, _ = others.shape
    rows, columns = (resample_weights(patches.source[:, axis], ring / patches.scale, size, ring) for axis in (0, 1))
    narrow = (others.reshape(count, -1, size) @ columns.transpose(1, 2)).view(count, channels, size, ring)
    low = rows @ narrow.transpose(1, 2).reshape(count, size, -1)
    return low.view(count, ring, channels, ring).transpose(1, 2)


def _inside(corner: Tensor, sides: Tensor, size: int) -> Tensor:
    across = torch.arange(size, device=corner.device)
    within = (across >= corner.unsqueeze(2)) & (across < (corner + sides).unsqueeze(2))
    return (within[:, 0, :, None] & within[:, 1, None, :]).unsqueeze(1)
