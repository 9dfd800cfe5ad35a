"""Losses of masks, for every stage that outlines defects: pure functions, logits per pixel in, one number out.

They compute in float32 whatever comes in, because the sums of a mask overflow the 8 bits of precision of bfloat16
(float64 stays float64). None divides by zero: an empty mask and a single defective pixel give finite losses and
gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DICE_SMOOTH = 1.0  # pixels


def binary_focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Focal loss of a sigmoid, Lin et al. 2017 (arXiv:1708.02002, equation 5), averaged over all elements.

    Args:
        logits: any shape.
        target: the same shape, 0 or 1, any dtype.
        gamma: at least 0; the higher, the less the easy elements count.
        alpha: weight of the positives in [0, 1], the negatives weigh `1 - alpha`; both weigh 1 where left out.

    Returns:
        A number >= 0.
    """
    logits = precise(logits)
    target = target.to(logits.dtype)
    sign = 1 - 2 * target
    # p_t = sigmoid(-sign * logits), so 1 - p_t = sigmoid(sign * logits) and -log p_t = softplus(sign * logits)
    losses = positive(torch.sigmoid(sign * logits)) ** gamma * F.softplus(sign * logits)
    if alpha is not None:
        losses = losses * (alpha * target + (1 - alpha) * (1 - target))
    return losses.mean()


def dice_loss(logits: Tensor, target: Tensor, smooth: float = DICE_SMOOTH, per_image: bool = False) -> Tensor:
    """Soft Dice loss, Milletari et al. 2016 (arXiv:1606.04797, section 3): `1 - 2 sum(p g) / (sum p^2 + sum g^2)`.

    The sums run over the whole batch. Image by image, an image without a defect would pull as hard on its few
    brightest pixels as a defect does on all of its own, and most images have none.

    Args:
        logits: (B, 1, H, W) or (B, H, W).
        target: the same shape, 0 or 1, any dtype.
        smooth: pixels added above and below; with it an empty mask has its minimum of 0 at `p = 0`.
        per_image: sum over each image alone and average; a defect of one pixel then weighs as much as a big one.

    Returns:
        A number in [0, 1].
    """
    sums = dice_sums(logits, target)
    return dice_of(sums if per_image else sums.sum(dim=0, keepdim=True), smooth)


def dice_sums(logits: Tensor, target: Tensor) -> Tensor:
    """(B, 2): `sum(p g)` and `sum p^2 + sum g^2` of each image; they add up over the images, and over processes."""
    p = torch.sigmoid(precise(logits)).flatten(1)
    g = target.to(p.dtype).flatten(1)
    return torch.stack([(p * g).sum(dim=1), (p * p).sum(dim=1) + (g * g).sum(dim=1)], dim=1)


def dice_of(sums: Tensor, smooth: float = DICE_SMOOTH) -> Tensor:
    """The Dice loss of sums (N, 2) of `dice_sums`, averaged over the N."""
    return (1 - (2 * sums[:, 0] + smooth) / (sums[:, 1] + smooth)).mean()


def precise(logits: Tensor) -> Tensor:
    """float32, or float64 where it is float64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def positive(x: Tensor) -> Tensor:
    """`x` kept above 0, where the slope of `x ** gamma` is infinite for gamma < 1."""
    return x.clamp_min(torch.finfo(x.dtype).tiny)
