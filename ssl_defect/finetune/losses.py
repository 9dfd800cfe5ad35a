"""The losses of a recipe by name, and those of labels, numbers and boxes: pure functions, one number out.

A task takes the table that fits its outputs, checks the recipe's choice by `check_losses`, and minimises the
`weighted_sum`. The losses of masks are in `nets/mask_losses.py`, what all share is in `nets/losses.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.errors import UserError, nearest
from ssl_defect.nets.losses import (
    Loss,
    LossSettings,
    bce,
    class_mean,
    cross_entropy,
    focal_loss,
    positive,
    precise,
    weighted_sum,
)
from ssl_defect.nets.mask_losses import CLASS_MASK_LOSSES, MASK_LOSSES

__all__ = [
    "BOX_LOSSES",
    "CLASS_LOSSES",
    "LABEL_LOSSES",
    "VALUE_LOSSES",
    "LossSettings",
    "bce",
    "check_losses",
    "cross_entropy",
    "focal_loss",
    "giou_loss",
    "huber",
    "l1",
    "l2",
    "label_focal_loss",
    "weighted_sum",
]

GIOU_EPSILON = 1e-7  # square pixels, as in torchvision: keeps the slope finite on boxes without an area


def label_focal_loss(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """`mask_losses.binary_focal_loss` for labels: with weights of the classes, and for soft targets.

    Of a soft target it takes the mean of the losses of present and absent, each with its probability.

    Args:
        logits: (B, K).
        target: (B, K) in [0, 1], any dtype.
        gamma: at least 0; the higher, the less the easy labels count.
        alpha: weight of present labels in [0, 1], absent ones weigh `1 - alpha`; both weigh 1 where left out.
        weights: (K,) weight of each class, at least 0; all 1 where left out.

    Returns:
        A number >= 0.
    """
    logits = precise(logits)
    target = target.to(logits.dtype)
    present = positive(torch.sigmoid(-logits)) ** gamma * F.softplus(-logits)
    absent = positive(torch.sigmoid(logits)) ** gamma * F.softplus(logits)
    if alpha is not None:
        present, absent = alpha * present, (1 - alpha) * absent
    return class_mean(target * present + (1 - target) * absent, weights)


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of numbers of any shape."""
    prediction = precise(prediction)
    return F.l1_loss(prediction, target.to(prediction.dtype))


def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of numbers of any shape."""
    prediction = precise(prediction)
    return F.mse_loss(prediction, target.to(prediction.dtype))


def huber(prediction: Tensor, target: Tensor, delta: float = 1.0) -> Tensor:
    """Huber 1964 (equation 6.2): `e^2 / 2` up to an error of `delta`, then `delta (|e| - delta / 2)`; the mean."""
    prediction = precise(prediction)
    return F.huber_loss(prediction, target.to(prediction.dtype), delta=delta)


def giou_loss(boxes: Tensor, target: Tensor) -> Tensor:
    """Generalised IoU loss, Rezatofighi et al. 2019 (arXiv:1902.09630, algorithm 1): `1 - IoU + (C - U) / C`.

    C is the area of the smallest box around both, U that of their union. Boxes without an area give a finite loss
    and slope; a box whose sides are swapped counts as one without an area.

    Args:
        boxes: (N, 4) left, top, right, bottom in pixels.
        target: (N, 4), box by box.

    Returns:
        The mean over the boxes, in [0, 2]; 0 for no box.
    """
    boxes = precise(boxes)
    target = target.to(boxes.dtype)
    shared = _area(torch.maximum(boxes[:, :2], target[:, :2]), torch.minimum(boxes[:, 2:], target[:, 2:]))
    around = _area(torch.minimum(boxes[:, :2], target[:, :2]), torch.maximum(boxes[:, 2:], target[:, 2:]))
    union = _area(boxes[:, :2], boxes[:, 2:]) + _area(target[:, :2], target[:, 2:]) - shared
    losses = 1 - shared / (union + GIOU_EPSILON) + (around - union).clamp_min(0) / (around + GIOU_EPSILON)
    return losses.sum() / max(len(losses), 1)


def _area(start: Tensor, end: Tensor) -> Tensor:
    return (end - start).clamp_min(0).prod(dim=1)


CLASS_LOSSES: dict[str, Loss] = {
    "cross_entropy": lambda x, y, s: cross_entropy(x, y, s.weights, s.smoothing),
    "focal": lambda x, y, s: focal_loss(x, y, s.gamma, s.weights),
}
"""For logits (B, K) and class numbers (B,) or probabilities (B, K)."""

LABEL_LOSSES: dict[str, Loss] = {
    "bce": lambda x, y, s: bce(x, y, s.weights, s.smoothing),
    "focal": lambda x, y, s: label_focal_loss(x, y, s.gamma, s.alpha, s.weights),
}
"""For logits (B, K) and labels (B, K) in [0, 1]."""

VALUE_LOSSES: dict[str, Loss] = {
    "l1": lambda x, y, s: l1(x, y),
    "l2": lambda x, y, s: l2(x, y),
    "huber": lambda x, y, s: huber(x, y, s.delta),
}
"""For numbers of any shape, and targets of the same."""

BOX_LOSSES: dict[str, Loss] = {"giou": lambda x, y, s: giou_loss(x, y)}
"""For boxes (N, 4), and targets of the same."""

FITS: tuple[tuple[dict[str, Loss], str], ...] = (
    (CLASS_LOSSES, "classification with one label per image"),
    (LABEL_LOSSES, "classification with several labels per image"),
    (MASK_LOSSES, "segmentation of good and defective"),
    (CLASS_MASK_LOSSES, "segmentation of several classes"),
    (VALUE_LOSSES, "regression"),
    (BOX_LOSSES, "boxes, from Python (detection weighs the losses of its architecture)"),
)


def check_losses(chosen: Mapping[str, float], table: Mapping[str, Loss], where: str) -> None:
    """Refuse a choice of losses that does not fit.

    Args:
        chosen: weight of each loss by name.
        table: the losses that fit.
        where: the setting, such as `finetune.options.losses`.

    Raises:
        UserError: an unknown name, a loss of another task, a weight below 0, or no weight above 0.
    """
    accepted = f"accepted: {', '.join(table)}"
    for name, weight in chosen.items():
        if name not in table:
            tasks = [task for other, task in FITS if name in other]
            reason = f"does not fit here, it is for {' and '.join(tasks)}" if tasks else "is unknown"
            raise UserError(f"{where}: '{name}' {reason}; {accepted}{'' if tasks else nearest(name, table)}")
        if not weight >= 0:
            raise UserError(f"{where}: '{name}: {weight}' is no weight; give a number of at least 0")
    if not any(chosen.values()):
        raise UserError(f"{where}: no loss has a weight above 0, so nothing would be learnt; {accepted}")
