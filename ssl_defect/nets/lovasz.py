"""The Lovász losses, Berman et al. 2018 (arXiv:1705.08790): convex surrogates of the Jaccard loss `1 - IoU`.

The Jaccard loss is a function of the set of wrong pixels. Its Lovász extension takes errors instead of a set, is
convex, piecewise linear, and equal to it where every error is 0 or 1. The pixels are those of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_defect.nets.losses import IGNORED, precise


def lovasz_hinge(logits: Tensor, target: Tensor) -> Tensor:
    """Lovász extension of the hinge errors `max(0, 1 - logit * sign)` of one class (section 3.1).

    An empty mask pulls down the brightest pixel alone: for the Jaccard loss one false pixel is as bad as many.

    Args:
        logits: any shape.
        target: the same shape, 0 or 1, any dtype.

    Returns:
        A number >= 0, 0 where every pixel is right by a margin of 1.
    """
    logits, truth = precise(logits).flatten(), target.flatten() > 0
    errors = (1 - torch.where(truth, logits, -logits)).relu()
    return jaccard_extension(errors[None], truth[None])[0]


def lovasz_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Lovász extension of the errors of a softmax, class by class (section 3.2), averaged over the classes present.

    Good is one of the classes: without it a batch without a defect would have no loss. Classes that no pixel of the
    batch has are left out, as in the paper.

    Args:
        logits: (B, K, ...).
        target: (B, ...) class numbers, int64, -1 where ignored.

    Returns:
        A number in [0, 1]; 0 where all is ignored.
    """
    p, target = precise(logits).softmax(dim=1).movedim(1, 0).flatten(1), target.flatten()
    truth = target == torch.arange(len(p), device=p.device)[:, None]
    # an ignored pixel has no error, stands at the end of the order and changes nothing
    errors = (truth.to(p.dtype) - p).abs() * (target != IGNORED)
    present = truth.any(dim=1)
    return (jaccard_extension(errors, truth) * present).sum() / present.sum().clamp_min(1)


def jaccard_extension(errors: Tensor, truth: Tensor) -> Tensor:
    """Lovász extension of the Jaccard loss (equations 8 and 9; its slopes are those of algorithm 1).

    Args:
        errors: (K, P) at least 0.
        truth: (K, P) bool.

    Returns:
        (K,) numbers >= 0.
    """
    errors, order = errors.sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    # with the first i pixels wrong: the wrong ones of the defect are lost, the others are falsely found
    found = truth.sum(dim=1, keepdim=True) - truth.cumsum(dim=1)
    union = truth.sum(dim=1, keepdim=True) + (~truth).cumsum(dim=1)
    losses = 1 - found.to(errors.dtype) / union.to(errors.dtype)
    return (errors * losses.diff(dim=1, prepend=torch.zeros_like(losses[:, :1]))).sum(dim=1)
