"""What every loss shares, and the losses of classes, which serve images and pixels alike.

Pure functions, logits in, one number out, the classes in dimension 1. All of them compute in float32 whatever comes
in (float64 stays float64). None divides by zero: a class without weight gives a finite loss and gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -1  # class number of what counts in no loss


@dataclass(frozen=True)
class LossSettings:
    """What the losses of the tables can be told; each takes what concerns it.

    Attributes:
        gamma: focusing exponent of the focal losses, at least 0.
        alpha: weight of the positives in the focal losses of a sigmoid, in [0, 1]; the negatives weigh 1 - alpha.
        tversky_alpha: weight of what was falsely found in the Tversky loss, at least 0.
        tversky_beta: weight of what was missed, at least 0.
        tversky_exponent: exponent of the Tversky loss, above 0; below 1 the hard masks keep a steeper slope.
        smooth: pixels added above and below in the Dice, Tversky and Jaccard losses, at least 0.
        smoothing: label smoothing of cross-entropy and BCE, in [0, 1).
        delta: where the Huber loss turns from a parabola to a line, above 0.
        weights: (K,) weight of each class, at least 0; all 1 where None.
    """

    gamma: float = 2.0
    alpha: float | None = None
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7
    tversky_exponent: float = 1.0
    smooth: float = 1.0
    smoothing: float = 0.0
    delta: float = 1.0
    weights: Tensor | None = None


Loss = Callable[[Tensor, Tensor, LossSettings], Tensor]
"""An entry of a table of losses: (logits, target, settings) -> a scalar."""


def weighted_sum(
    chosen: Mapping[str, float], table: Mapping[str, Loss], logits: Tensor, target: Tensor, settings: LossSettings
) -> dict[str, Tensor]:
    """The sum to minimise, and its parts.

    Args:
        chosen: weight of each loss by its name in `table`; losses of weight 0 are not computed.

    Returns:
        "loss", and by name the unweighted value of each loss, detached.
    """
    values = {name: table[name](logits, target, settings) for name, weight in chosen.items() if weight}
    loss = torch.stack([chosen[name] * value for name, value in values.items()]).sum()
    return {"loss": loss, **{name: value.detach() for name, value in values.items()}}


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of a softmax, averaged with the weights of the true classes.

    Label smoothing is that of Szegedy et al. 2016 (arXiv:1512.00567, section 7): the target becomes
    `(1 - smoothing) * onehot + smoothing / K`.

    Args:
        logits: (B, K, ...).
        target: (B, ...) class numbers, int64, -1 where ignored; or (B, K, ...) probabilities.
        weights: (K,) weight of each class, at least 0; all 1 where left out.
        smoothing: in [0, 1).

    Returns:
        A number >= 0; 0 where nothing has a weight.
    """
    logits = precise(logits)
    weights = _class_weights(logits, weights)
    if target.is_floating_point():
        target = target.to(logits.dtype)
        share = _along_classes(weights, target) * target
    else:
        share = weights[target.clamp_min(0)] * (target != IGNORED)
    total = F.cross_entropy(
        logits, target, weight=weights, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )
    return total / positive(share.sum())


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, weights: Tensor | None = None) -> Tensor:
    """Focal loss of a softmax, Lin et al. 2017 (arXiv:1708.02002, equation 5): `-a_t (1 - p_t)^gamma log p_t`.

    With `gamma = 0` it equals `cross_entropy` with the same weights. Of soft targets it takes the mean over the
    classes, each with its probability: the loss of a mixed image is the mixture of the losses of its two labels, as
    mixup has it (Zhang et al. 2018, arXiv:1710.09412).

    Args:
        logits: (B, K, ...).
        target: (B, ...) class numbers, int64, -1 where ignored; or (B, K, ...) probabilities.
        gamma: at least 0; the higher, the less the easy images count.
        weights: (K,) weight `a` of each class, at least 0; all 1 where left out.

    Returns:
        The mean with the weights of the true classes, >= 0.
    """
    logits = precise(logits)
    weights = _class_weights(logits, weights)
    log_p = F.log_softmax(logits, dim=1)
    if target.is_floating_point():
        target = target.to(logits.dtype)
        share = _along_classes(weights, target) * target
    else:
        number = target.clamp_min(0)
        log_p = log_p.gather(1, number.unsqueeze(1)).squeeze(1)
        share = weights[number] * (target != IGNORED)
    # 1 - p by expm1: exact for p close to 1, where 1 - exp(log_p) would round to 0
    losses = -(positive(-torch.expm1(log_p)) ** gamma) * log_p
    return (share * losses).sum() / positive(share.sum())


def bce(logits: Tensor, target: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of a sigmoid per element, averaged with the weights of the classes.

    Args:
        logits: (B, K, ...), or any shape without `weights`.
        target: the same shape, in [0, 1], any dtype.
        weights: (K,) weight of each class, at least 0; all 1 where left out.
        smoothing: in [0, 1): targets become `(1 - smoothing) * target + smoothing / 2`.

    Returns:
        A number >= 0; 0 where every class has weight 0.
    """
    logits = precise(logits)
    target = target.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return class_mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), weights)


def class_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of losses (B, K, ...) with the weights (K,) of the classes; of any shape where there are none."""
    if weights is None:
        return losses.mean()
    spread = _along_classes(weights.to(losses), losses).expand_as(losses)
    return (spread * losses).sum() / positive(spread.sum())


def tversky_index(hits: Tensor, false: Tensor, missed: Tensor, alpha: float, beta: float, smooth: float) -> Tensor:
    """`hits / (hits + alpha false + beta missed)`, with `smooth` pixels added above and below.

    Salehi et al. 2017 (arXiv:1706.05721, equation 3). The Dice index is that of alpha = beta = 1/2, the Jaccard index
    (IoU) that of alpha = beta = 1.
    """
    return (hits + smooth) / positive(hits + alpha * false + beta * missed + smooth)


def precise(logits: Tensor) -> Tensor:
    """float32, or float64 where it is float64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def positive(x: Tensor) -> Tensor:
    """`x` kept above 0, to divide by it or where the slope of `x ** gamma` is infinite for gamma < 1."""
    return x.clamp_min(torch.finfo(x.dtype).tiny)


def _class_weights(logits: Tensor, weights: Tensor | None) -> Tensor:
    return logits.new_ones(logits.shape[1]) if weights is None else weights.to(logits)


def _along_classes(weights: Tensor, like: Tensor) -> Tensor:
    return weights.view(-1, *[1] * (like.ndim - 2))
