"""How far a painted picture is from the one it was painted after, pixel by pixel."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Error = Literal["ssim", "l2"]
SIGMA, REACH = 1.5, 5  # of the Gaussian window in pixels: 11 x 11, as in the paper of SSIM
LIGHT, CONTRAST = 0.01**2, 0.03**2  # its stabilising constants for values in [0, 1]


def difference(one: Tensor, two: Tensor, kind: Error) -> Tensor:
    """Per pixel (B, H, W), at least 0: 1 - SSIM, in [0, 2], or the squared difference; the mean over channels.

    Args:
        one, two: (B, C, H, W) in [0, 1]; what is painted may leave that range.
        kind: `ssim` or `l2`.
    """
    with torch.autocast(one.device.type, enabled=False):
        one, two = one.float(), two.float()
        if kind == "l2":
            return (one - two).square().mean(dim=1)
        return (1 - ssim_map(one, two)).mean(dim=1).clamp_min(0)


def ssim_map(one: Tensor, two: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, equation 13) around every pixel: (B, C, H, W) in [-1, 1].

    At the border the window is normalised over what lies within the picture.

    Args:
        one, two: (B, C, H, W) in [0, 1].
    """
    # second moments about the mean of the picture: about 0 they would lose a flat picture's contrast in float32
    means = [x.mean(dim=(2, 3), keepdim=True) for x in (one, two)]
    p, q = one - means[0], two - means[1]
    a, b, aa, bb, ab = _windowed(torch.cat([p, q, p * p, q * q, p * q], dim=1)).chunk(5, dim=1)
    spread, shared = aa - a * a + bb - b * b, ab - a * b
    a, b = a + means[0], b + means[1]
    light = (2 * a * b + LIGHT) / (a * a + b * b + LIGHT)
    return light * (2 * shared + CONTRAST) / (spread + CONTRAST)


def _windowed(maps: Tensor) -> Tensor:
    """Means (B, C, H, W) under the window around every pixel.

    Columns and rows in turn, as products with banded matrices: on a CPU more than ten times as fast as convolutions of
    one channel.
    """
    rows, columns = (_band(side).to(maps) for side in maps.shape[-2:])
    return rows @ maps @ columns.T


def _band(side: int) -> Tensor:
    """The window around each of `side` places in a row, (side, side); rows add up to 1."""
    apart = torch.arange(side)[:, None] - torch.arange(side)
    window = torch.exp(-apart.square() / (2 * SIGMA**2)) * (apart.abs() <= REACH)
    return window / window.sum(dim=1, keepdim=True)
