"""mixup and CutMix: pictures made of two pictures, with labels made of their labels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def mix(
    images: Tensor, soft_targets: Tensor, mixup: float, cutmix: float, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each picture of a batch with another one of it.

    With both above 0 a batch is mixed by the one or the other, each half of the time. The numbers are drawn on the
    host from the seed of `draw`, which the loop sets anew in every step: to read them from an accelerator, every
    step would have to wait for it.

    Args:
        images: float (B, C, H, W).
        soft_targets: (B, K) probabilities of classes, or labels in [0, 1].
        mixup: parameter of the Beta distribution of the mixture, 0 for no mixup.
        cutmix: the same of the area that CutMix leaves, 0 for no CutMix.

    Returns:
        New pictures and targets; those that came in where both are 0.
    """
    if mixup == 0 and cutmix == 0:
        return images, soft_targets
    random = np.random.default_rng(draw.initial_seed())
    cut = mixup == 0 or (cutmix > 0 and random.random() < 0.5)
    share = float(random.beta(cutmix, cutmix) if cut else random.beta(mixup, mixup))
    order = torch.from_numpy(random.permutation(len(images))).to(images.device, non_blocking=True)
    if not cut:
        return blend(images, soft_targets, order, share)
    height, width = images.shape[-2:]
    centre = int(random.integers(height)), int(random.integers(width))
    return paste(images, soft_targets, order, box(height, width, centre, share))


def blend(images: Tensor, targets: Tensor, order: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """mixup, Zhang et al. 2018 (arXiv:1710.09412, section 2): `share * x + (1 - share) * x[order]`, labels alike."""
    return torch.lerp(images[order], images, share), torch.lerp(targets[order], targets, share)


def paste(images: Tensor, targets: Tensor, order: Tensor, window: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
    """CutMix, Yun et al. 2019 (arXiv:1905.04899, equation 1): the window of each picture comes from another.

    Labels mix by the area that the window really has in the picture.
    """
    mixed = images.clone()
    part = mixed[..., window[0], window[1]]
    part.copy_(images[order][..., window[0], window[1]])
    kept = 1 - part.shape[-2] * part.shape[-1] / (images.shape[-2] * images.shape[-1])
    return mixed, torch.lerp(targets[order], targets, kept)


def box(height: int, width: int, centre: tuple[int, int], share: float) -> tuple[slice, slice]:
    """Rows and columns of the window around `centre` that leaves about `share` of the picture (equation 2).

    Its sides are `sqrt(1 - share)` of the picture's, cut off at the border.
    """
    side = math.sqrt(1 - share)
    return _stretch(height, centre[0], side), _stretch(width, centre[1], side)


def _stretch(size: int, middle: int, side: float) -> slice:
    length = round(size * side)
    start = middle - length // 2
    return slice(max(0, start), min(size, start + length))
