"""Losses of masks with several classes, by overlap: logits (B, K, ...) in, class numbers (B, ...) as the target.

Each class has its own overlap, summed over the batch, and the loss is the mean over the classes but good. Good fills
nearly every picture and is easily found, so that it would only water the others down. A class that is missing in the
batch counts as well: most parts are good, and what raises false alarms on them must not go free. Its minimum is 0,
where nothing of it is found.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_defect.nets.losses import IGNORED, class_mean, positive, precise, tversky_index


def class_dice_loss(logits: Tensor, target: Tensor, smooth: float = 1.0, weights: Tensor | None = None) -> Tensor:
    """Soft Dice loss of a softmax, for each class as in `mask_losses.dice_loss`.

    Args:
        logits: (B, K, ...), class 0 is good.
        target: (B, ...) class numbers, int64, -1 where ignored.
        smooth: pixels added above and below.
        weights: (K,) weight of each class, that of good is not used; all 1 where left out.

    Returns:
        A number in [0, 1].
    """
    p, g = _shares(logits, target)
    sums = (p * p).sum(dim=1) + (g * g).sum(dim=1)
    losses = 1 - (2 * (p * g).sum(dim=1) + smooth) / positive(sums + smooth)
    return _defects(losses, weights)


def class_tversky_loss(  # noqa: PLR0913
    logits: Tensor,
    target: Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    exponent: float = 1.0,
    *,
    smooth: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Tversky loss of a softmax, for each class as in `mask_losses.tversky_loss`; arguments as there and above."""
    p, g = _shares(logits, target)
    hits = (p * g).sum(dim=1)
    false, missed = p.sum(dim=1) - hits, g.sum(dim=1) - hits
    losses = positive(1 - tversky_index(hits, false, missed, alpha, beta, smooth)) ** exponent
    return _defects(losses, weights)


def class_jaccard_loss(logits: Tensor, target: Tensor, smooth: float = 1.0, weights: Tensor | None = None) -> Tensor:
    """Soft IoU loss of a softmax: `class_tversky_loss` with alpha = beta = 1."""
    return class_tversky_loss(logits, target, 1.0, 1.0, smooth=smooth, weights=weights)


def _shares(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(K, P) probabilities and truth of all pixels; ignored ones have neither."""
    p, target = precise(logits).softmax(dim=1).movedim(1, 0).flatten(1), target.flatten()
    truth = target == torch.arange(len(p), device=p.device)[:, None]
    return p * (target != IGNORED), truth.to(p.dtype)


def _defects(losses: Tensor, weights: Tensor | None) -> Tensor:
    return class_mean(losses[None, 1:], None if weights is None else weights[1:])
