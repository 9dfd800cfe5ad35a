"""Losses of masks, for every stage that outlines defects: pure functions, logits per pixel in, one number out.

They compute in float32 whatever comes in, because the sums of a mask overflow the 8 bits of precision of bfloat16
(float64 stays float64). None divides by zero: an empty mask and a single defective pixel give finite losses and
gradients. Those of masks with several classes are in `class_mask_losses.py`, the Lovász losses in `lovasz.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.nets.class_mask_losses import class_dice_loss, class_jaccard_loss, class_tversky_loss
from ssl_defect.nets.losses import (
    Loss,
    bce,
    cross_entropy,
    focal_loss,
    positive,
    precise,
    tversky_index,
)
from ssl_defect.nets.lovasz import lovasz_hinge, lovasz_softmax

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
    return (1 - (2 * sums[:, 0] + smooth) / positive(sums[:, 1] + smooth)).mean()


def tversky_loss(
    logits: Tensor,
    target: Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    exponent: float = 1.0,
    smooth: float = DICE_SMOOTH,
) -> Tensor:
    """Tversky loss, Salehi et al. 2017 (arXiv:1706.05721): `(1 - TP / (TP + alpha FP + beta FN))^exponent`.

    The counts are soft, `sum(p g)`, `sum(p (1 - g))` and `sum((1 - p) g)`, over the whole batch as in `dice_loss`.
    With beta above alpha a missed pixel costs more than a false one. The exponent is 1 / gamma of the focal Tversky
    loss, Abraham and Khan 2019 (arXiv:1810.07842, equation 4), where gamma = 4/3 served small lesions best.

    Args:
        logits: any shape.
        target: the same shape, 0 or 1, any dtype.
        alpha, beta: at least 0, weights of what is falsely found and of what is missed.
        exponent: above 0.
        smooth: pixels added above and below; with it an empty mask has its minimum of 0 at `p = 0`.

    Returns:
        A number in [0, 1].
    """
    p = torch.sigmoid(precise(logits))
    g = target.to(p.dtype)
    hits, false, missed = (p * g).sum(), (p * (1 - g)).sum(), ((1 - p) * g).sum()
    return positive(1 - tversky_index(hits, false, missed, alpha, beta, smooth)) ** exponent


def jaccard_loss(logits: Tensor, target: Tensor, smooth: float = DICE_SMOOTH) -> Tensor:
    """Soft Jaccard (IoU) loss over the batch: `1 - sum(p g) / (sum p + sum g - sum(p g))`, in [0, 1]."""
    return tversky_loss(logits, target, 1.0, 1.0, smooth=smooth)


MASK_LOSSES: dict[str, Loss] = {
    "bce": lambda x, y, s: bce(x, y, None, s.smoothing),
    "focal": lambda x, y, s: binary_focal_loss(x, y, s.gamma, s.alpha),
    "dice": lambda x, y, s: dice_loss(x, y, s.smooth),
    "tversky": lambda x, y, s: tversky_loss(x, y, s.tversky_alpha, s.tversky_beta, s.tversky_exponent, s.smooth),
    "jaccard": lambda x, y, s: jaccard_loss(x, y, s.smooth),
    "lovasz": lambda x, y, s: lovasz_hinge(x, y),
}
"""For logits (B, 1, H, W) and masks of the same shape, 0 or 1."""

CLASS_MASK_LOSSES: dict[str, Loss] = {
    "cross_entropy": lambda x, y, s: cross_entropy(x, y, s.weights, s.smoothing),
    "focal": lambda x, y, s: focal_loss(x, y, s.gamma, s.weights),
    "dice": lambda x, y, s: class_dice_loss(x, y, s.smooth, s.weights),
    "tversky": lambda x, y, s: class_tversky_loss(
        x, y, s.tversky_alpha, s.tversky_beta, s.tversky_exponent, smooth=s.smooth, weights=s.weights
    ),
    "jaccard": lambda x, y, s: class_jaccard_loss(x, y, s.smooth, s.weights),
    "lovasz": lambda x, y, s: lovasz_softmax(x, y),
}
"""For logits (B, K, H, W) and class numbers (B, H, W), int64, -1 where ignored; class 0 is good."""
