"""Losses of classes: pure functions, logits in, one number out; those of masks are in `nets/mask_losses.py`.

All of them compute in float32 whatever comes in (float64 stays float64). None divides by zero: a class without
weight gives a finite loss and gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.nets.mask_losses import positive, precise


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
    logits = precise(logits)
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
    logits = precise(logits)
    weights = _class_weights(logits, weights)[target]
    log_p = F.log_softmax(logits, dim=1).gather(1, target[:, None])[:, 0]
    # 1 - p by expm1: exact for p close to 1, where 1 - exp(log_p) would round to 0
    losses = -(positive(-torch.expm1(log_p)) ** gamma) * log_p
    return (weights * losses).sum() / _total(weights)


def _class_weights(logits: Tensor, weights: Tensor | None) -> Tensor:
    return logits.new_ones(logits.shape[1]) if weights is None else weights.to(logits)


def _total(weights: Tensor) -> Tensor:
    return weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
