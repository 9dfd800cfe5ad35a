"""Batched views on the device: crops, flips, turns, light, noise and blur, each picture with its own draw.

A crop, a flip and a change of size are linear and separable: row weights @ picture @ column weights. So they cost
two small matrix products for a whole batch, a quarter of what sampling on a grid costs on a CPU, and the same
weights move the masks. Every function draws from a `torch.Generator` on the device of the pictures, so that a
view is a pure function of pictures and seed. Grey sets stay in one channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Crop:
    """What `random_geometry` may draw.

    Attributes:
        scale: least and greatest share of the picture's area that is kept, in (0, 1].
        ratio: least and greatest width by height of the crop, as far as its area leaves room.
        flips: mirror either way.
        turns: turn by quarters.
        size: side of the view in pixels; that of the picture where None.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flips: bool = True
    turns: bool = True
    size: int | None = None


@dataclass(frozen=True)
class Geometry:
    """Where each view comes from: one linear map per picture, the same for pictures, masks and coordinates.

    Attributes:
        rows: (B, out, S) weights of the source rows; flips are in them.
        columns: (B, out, S) weights of the source columns.
        transposed: (B,) bool: whether the picture is transposed first.
        boxes: (B, 4) top, left, height, width of the crop in pixels of the (transposed) source.
    """

    rows: Tensor
    columns: Tensor
    transposed: Tensor
    boxes: Tensor

    def apply(self, images: Tensor) -> Tensor:
        """Views (B, C, out, out) of pictures (B, C, S, S), linearly interpolated; float32 whatever autocast says."""
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            flipped = torch.where(self.transposed.view(-1, 1, 1, 1), images.transpose(2, 3), images)
            return self.rows.unsqueeze(1) @ flipped @ self.columns.unsqueeze(1).transpose(2, 3)

    def apply_mask(self, masks: Tensor) -> Tensor:
        """Masks (B, 1, S, S) of 0 and 1 moved along, uint8: a cell is defective from half coverage on."""
        return (self.apply(masks) >= 0.5).to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """Pictures uint8 in [0, 255] as float32 in [0, 1]."""
    return images.float().div_(255)


def resample_weights(start: Tensor, length: Tensor, size: int, out: int) -> Tensor:
    """Weights (B, out, size) that resample the stretch [start, start + length) of `size` cells to `out` cells.

    Linear interpolation; where cells are merged (length > out) the triangle widens with them, which is the
    antialiasing of PIL and torchvision. Past the border the outermost cell counts.

    Args:
        start: (B,) first cell of the stretch, may be fractional.
        length: (B,) cells in the stretch; negative reads it backwards from `start` (a flip).
    """
    step = (length / out).view(-1, 1, 1)
    targets = torch.arange(out, device=start.device).view(1, -1, 1) + 0.5
    cells = torch.arange(size, device=start.device).view(1, 1, -1) + 0.5
    centres = start.view(-1, 1, 1) + targets * step
    weights = (1 - (cells - centres).abs() / step.abs().clamp(min=1)).clamp_(min=0)
    return weights / weights.sum(dim=2, keepdim=True)


def random_geometry(count: int, size: int, generator: Generator, crop: Crop = Crop()) -> Geometry:
    """Random crops (as Inception's: area and log ratio uniform), flips and quarter turns of `count` pictures.

    Args:
        size: side of the pictures, in pixels.
    """
    draw = torch.rand(count, 7, generator=generator, device=generator.device).unbind(1)
    share = _between(draw[0], *crop.scale)
    widest = -share.log()  # a box of that area and a larger log ratio would not fit into the picture
    low, high = (widest.clamp(max=abs(math.log(r))) * math.copysign(1, math.log(r)) for r in crop.ratio)
    ratio = _between(draw[1], low, high).exp()
    height, width = ((share / ratio).sqrt() * size).clamp(max=size), ((share * ratio).sqrt() * size).clamp(max=size)
    top, left = draw[2] * (size - height), draw[3] * (size - width)
    quarter = (draw[4] * 4).long() if crop.turns else torch.zeros_like(draw[4], dtype=torch.long)
    flip_columns = (quarter >= 2) ^ (crop.flips & (draw[6] < 0.5))
    flip_rows = ((quarter == 1) | (quarter == 2)) ^ (crop.flips & (draw[5] < 0.5))
    out = crop.size or size
    return Geometry(
        rows=_flippable(top, height, flip_rows, size, out),
        columns=_flippable(left, width, flip_columns, size, out),
        transposed=quarter % 2 == 1,
        boxes=torch.stack([top, left, height, width], dim=1),
    )


def adjust_light(images: Tensor, brightness: Tensor, contrast: Tensor, gamma: Tensor) -> Tensor:
    """Pictures (B, C, S, S) in [0, 1] under other light: power `gamma`, times `brightness`, contrast about the mean.

    Args:
        brightness, contrast, gamma: (B,) factors and exponent; 1 leaves the picture alone.
    """
    shape = (-1, 1, 1, 1)
    images = images.clamp(1e-6, 1).pow(gamma.view(shape)).mul_(brightness.view(shape)).clamp_(0, 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return images.sub_(mean).mul_(contrast.view(shape)).add_(mean).clamp_(0, 1)


def random_light(images: Tensor, generator: Generator, brightness: float, contrast: float, gamma: float) -> Tensor:
    """`adjust_light` with factors drawn per picture, log-uniform in [exp(-x), exp(x)] for each strength x >= 0."""
    draw = torch.rand(3, len(images), generator=generator, device=generator.device) * 2 - 1
    strengths = torch.tensor([brightness, contrast, gamma], device=draw.device).view(3, 1)
    return adjust_light(images, *(draw * strengths).exp())


def random_noise(images: Tensor, generator: Generator, deviation: float) -> Tensor:
    """Gaussian noise, its standard deviation drawn per picture from [0, `deviation`]; clamped to [0, 1]."""
    if deviation == 0:
        return images
    level = torch.rand(len(images), 1, 1, 1, generator=generator, device=generator.device) * deviation
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    return noise.mul_(level).add_(images).clamp_(0, 1)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Pictures (B, C, S, S) blurred by Gaussians of `sigma` (B,) pixels; 0 leaves a picture alone."""
    cells = torch.arange(images.shape[-1], device=images.device)
    distance = (cells.view(1, -1, 1) - cells.view(1, 1, -1)).square()
    weights = torch.exp(-distance / (2 * sigma.clamp(min=1e-2).square()).view(-1, 1, 1))
    weights = (weights / weights.sum(dim=2, keepdim=True)).unsqueeze(1)
    with torch.autocast(images.device.type, enabled=False):
        return weights @ images @ weights.transpose(2, 3)


def random_blur(images: Tensor, generator: Generator, sigma: float, share: float = 0.5) -> Tensor:
    """Blur a random `share` of the pictures, each by a sigma drawn from [0, `sigma`] pixels."""
    if sigma == 0:
        return images
    draw = torch.rand(2, len(images), generator=generator, device=generator.device)
    return gaussian_blur(images, torch.where(draw[0] < share, draw[1] * sigma, 0.0))


def _between(draw: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    return low + draw * (high - low)


def _flippable(start: Tensor, length: Tensor, flip: Tensor, size: int, out: int) -> Tensor:
    first = torch.where(flip, start + length, start)
    return resample_weights(first, torch.where(flip, -length, length), size, out)
