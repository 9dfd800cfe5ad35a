"""How good rebuilt pictures are: PSNR and SSIM, over the pixels that had to be rebuilt."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WATCHED = 4  # pictures of a batch that are measured in a step: enough for a curve, and a small part of a step
LOGS = {
    "psnr": "peak signal-to-noise ratio of the hidden pixels in dB; 10 is noise, 20 the coarse shape, 30 detail",
    "ssim": "structural similarity of the hidden pixels, in [-1, 1]; 0 is none, 1 the picture itself",
}


@torch.no_grad()
def quality(rebuilt: Tensor, images: Tensor, covered: Tensor) -> dict[str, Tensor]:
    """`LOGS` of the first pictures of a batch, in float32.

    Args:
        rebuilt, images: (B, C, S, S) in [0, 1].
        covered: (B, 1, S, S) bool, the pixels that were hidden.
    """
    one, two, where = rebuilt[:WATCHED].float(), images[:WATCHED].float(), covered[:WATCHED]
    with torch.autocast(one.device.type, enabled=False):
        return {"psnr": psnr(one, two, where), "ssim": ssim(one, two, where)}


def psnr(one: Tensor, two: Tensor, where: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB, the mean over pictures: 10 log10(1 / mean squared error), at most 100.

    Args:
        one, two: (B, C, H, W) in [0, 1].
        where: (B, 1, H, W) bool, the pixels that count; all where None.
    """
    error = (one - two).square().mean(dim=1, keepdim=True)
    return (-10 * _mean_where(error, where).clamp(min=1e-10).log10()).mean()


def ssim(one: Tensor, two: Tensor, where: Tensor | None = None) -> Tensor:
    """Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13), the mean over pictures, in [-1, 1].

    Local moments are weighted by a Gaussian of 1.5 pixels in an 11 x 11 window; only windows that lie whole in the
    picture count, and with `where` only those whose middle is there.

    Args:
        one, two: (B, C, H, W) in [0, 1], 11 pixels wide at least.
        where: (B, 1, H, W) bool; all pixels where None.
    """
    moments = torch.cat([one, two, one * one, two * two, one * two], dim=1)
    a, b, aa, bb, ab = _gaussian(moments).chunk(5, dim=1)
    stable, stabler = 0.01**2, 0.03**2
    light = (2 * a * b + stable) / (a * a + b * b + stable)
    structure = (2 * (ab - a * b) + stabler) / (aa - a * a + bb - b * b + stabler)
    similar = (light * structure).mean(dim=1, keepdim=True)
    return _mean_where(similar, None if where is None else where[:, :, 5:-5, 5:-5]).mean()


def _mean_where(values: Tensor, where: Tensor | None) -> Tensor:
    """Mean of each picture (B, 1, H, W) over the pixels `where`, (B,); 0 where there are none."""
    if where is None:
        return values.mean(dim=(1, 2, 3))
    return (values * where).sum(dim=(1, 2, 3)) / where.sum(dim=(1, 2, 3)).clamp(min=1)


def _gaussian(maps: Tensor, sigma: float = 1.5, reach: int = 5) -> Tensor:
    """(B, C, H, W) -> (B, C, H - 2 reach, W - 2 reach): means under a Gaussian window, rows and columns in turn."""
    offsets = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    window = torch.exp(-offsets.square() / (2 * sigma**2))
    window = window / window.sum()
    flat = maps.flatten(0, 1).unsqueeze(1)
    flat = functional.conv2d(functional.conv2d(flat, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return flat.view(*maps.shape[:2], *flat.shape[2:])
