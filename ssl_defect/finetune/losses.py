"""Losses of the tasks: pure functions, logits in, one number out.

All of them compute in float32 whatever comes in, because the sums of a mask overflow the 8 bits of precision of
bfloat16 (float64 stays float64). None divides by zero: an empty mask, a class without weight and a single
defective pixel all give finite losses and gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DICE_SMOOTH = 1.0  # pixels


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of a softmax, averaged with the weights of the true classes.

    Label smoothing is that of Szegedy et al. 2016 (arXiv:1512.00567, section 7): the target becomes
    `(1 - smoothing) * onehot + smoothing / K`.

    Args:
        logits: (B, K).
        target: (B,) class numbers, int64.
        weights: (K,) weight of each class, at least 0; all 1 where left out.
        smoothing: in [0, 1).

    Returns:
        A number >= 0; 0 where every image of the batch has weight 0.
    """
    logits = _precise(logits)
    weights = _class_weights(logits, weights)
    total = F.cross_entropy(logits, target, weight=weights, label_smoothing=smoothing, reduction="sum")
    return total / _total(weights[target])


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, weights: Tensor | None = None) -> Tensor:
    """Focal loss of a softmax, Lin et al. 2017 (arXiv:1708.02002, equation 5): `-a_t (1 - p_t)^gamma log p_t`.

    With `gamma = 0` it equals `cross_entropy` with the same weights.

    Args:
        logits: (B, K).
        target: (B,) class numbers, int64.
        gamma: at least 0; the higher, the less the easy images count.
        weights: (K,) weight `a` of each class, at least 0; all 1 where left out.

    Returns:
        The mean with the weights of the true classes, >= 0.
    """
    logits = _precise(logits)
    weights = _class_weights(logits, weights)[target]
    log_p = F.log_softmax(logits, dim=1).gather(1, target[:, None])[:, 0]
    # 1 - p by expm1: exact for p close to 1, where 1 - exp(log_p) would round to 0
    losses = -(_positive(-torch.expm1(log_p)) ** gamma) * log_p
    return (weights * losses).sum() / _total(weights)


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
    logits = _precise(logits)
    target = target.to(logits.dtype)
    sign = 1 - 2 * target
    # p_t = sigmoid(-sign * logits), so 1 - p_t = sigmoid(sign * logits) and -log p_t = softplus(sign * logits)
    losses = _positive(torch.sigmoid(sign * logits)) ** gamma * F.softplus(sign * logits)
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
    p = torch.sigmoid(_precise(logits)).flatten(1)
    g = target.to(p.dtype).flatten(1)
    over = 1 if per_image else (0, 1)
    shared = (p * g).sum(over)
    sizes = (p * p).sum(over) + (g * g).sum(over)
    return (1 - (2 * shared + smooth) / (sizes + smooth)).mean()


def _precise(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _positive(x: Tensor) -> Tensor:
    return x.clamp_min(torch.finfo(x.dtype).tiny)  # the slope of x ** gamma at 0 is infinite for gamma < 1


def _class_weights(logits: Tensor, weights: Tensor | None) -> Tensor:
    return logits.new_ones(logits.shape[1]) if weights is None else weights.to(logits)


def _total(weights: Tensor) -> Tensor:
    return weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
