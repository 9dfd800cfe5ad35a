"""Colour as CIE L*a*b* (1976) sees it: lightness apart from two colour axes, on which equal steps look equal."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)  # D65, 2 degrees


def rgb_to_lab(images: Tensor) -> Tensor:
    """sRGB pictures (B, 3, H, W) in [0, 1] as L in [0, 100], a and b in about [-108, 99]: (B, 3, H, W).

    IEC 61966-2-1 for sRGB to XYZ, CIE 15 for XYZ to L*a*b*; grey has a = b = 0.
    """
    linear = torch.where(images > 0.04045, ((images.clamp(min=0.04045) + 0.055) / 1.055).pow(2.4), images / 12.92)
    white = images.new_tensor(WHITE).view(3, 1, 1)
    ratio = _mix(linear, images.new_tensor(TO_XYZ)) / white
    f = torch.where(ratio > 0.008856, ratio.clamp(min=0.008856).pow(1 / 3), 7.787 * ratio + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """The inverse of `rgb_to_lab`, (B, 3, H, W); colours that no screen can show are clamped to [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    ratio = torch.where(f > 0.2068966, f.pow(3), (f - 16 / 116) / 7.787)
    linear = _mix(ratio * lab.new_tensor(WHITE).view(3, 1, 1), torch.linalg.inv(lab.new_tensor(TO_XYZ)))
    bright = 1.055 * linear.clamp(min=0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, bright, 12.92 * linear).clamp(0, 1)


@lru_cache(maxsize=4)
def gamut_bins(width: int) -> Tensor:
    """Middles (Q, 2) of the squares of that width on the a-b plane in which sRGB has colours (Zhang et al. 2016, 2.1).

    Found from 33 steps of each channel; grey is one of them.
    """
    steps = torch.linspace(0, 1, 33, dtype=torch.float64)
    cube = torch.cartesian_prod(steps, steps, steps).T.reshape(1, 3, -1, 1)
    places = (rgb_to_lab(cube)[0, 1:, :, 0].T / width).round().long()
    far = int(places.abs().max()) + 1
    codes = torch.zeros((2 * far) ** 2, dtype=torch.bool)
    codes[(places[:, 0] + far) * 2 * far + places[:, 1] + far] = True
    found = codes.nonzero().squeeze(1)
    return torch.stack([found // (2 * far) - far, found % (2 * far) - far], dim=1).float() * width


def colour_range(images: Tensor) -> float:
    """How far colours (uint8 (N, 3, H, W)) are from their median on the a-b plane: the 99th percentile over pixels.

    0 for grey pictures and for those under one cast; a coloured part on a grey table has 10 and more.
    """
    few = images.permute(0, 2, 3, 1).reshape(-1, 3)
    few = few[:: max(1, len(few) // 100_000)].T.reshape(1, 3, -1, 1).float() / 255
    plane = rgb_to_lab(few)[0, 1:, :, 0]
    return float((plane - plane.median(dim=1, keepdim=True).values).norm(dim=0).quantile(0.99))


def _mix(images: Tensor, matrix: Tensor) -> Tensor:
    """Channels mixed by a (3, 3) matrix, pixel by pixel, in the pictures' own precision whatever autocast says."""
    with torch.autocast(images.device.type, enabled=False):
        return (matrix @ images.flatten(2)).view_as(images)
