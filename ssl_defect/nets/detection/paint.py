"""Boxes and their masks, painted on the picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def box_map(boxes: Tensor, scores: Tensor, size: int, masks: Tensor | None = None) -> Tensor:
    """At each pixel the highest score of the boxes over it: (B, S, S).

    Args:
        boxes: (B, D, 4) in pixels.
        scores: (B, D) in [0, 1].
        masks: (B, D, M, M) in [0, 1]; each score is multiplied by its box's mask.
    """
    found = boxes.new_zeros(len(boxes), size, size)
    for number in range(boxes.shape[1]):  # one at a time, so that memory stays flat
        over = inside(boxes[:, number], size).float()
        if masks is not None:
            over = over * _sample(masks[:, number], boxes[:, number], size)
        found = torch.maximum(found, over * scores[:, number].view(-1, 1, 1))
    return found


def inside(boxes: Tensor, size: int) -> Tensor:
    """Bool (n, S, S): pixels with their centre in the box (n, 4), and the one at the centre of the box."""
    x1, y1, x2, y2 = boxes.unsqueeze(2).unbind(dim=1)
    rows, columns = _covered(y1, y2, size), _covered(x1, x2, size)
    return rows.unsqueeze(2) & columns.unsqueeze(1)


def paste_masks(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Masks (n, M, M) of boxes (n, 4) on the picture: (n, S, S), 0 outside the box."""
    return _sample(masks, boxes, size) * inside(boxes, size)


def _covered(low: Tensor, high: Tensor, size: int) -> Tensor:
    cells = torch.arange(size, device=low.device)
    there = (cells + 0.5 >= low) & (cells + 0.5 < high)
    return there | ((cells == ((low + high) / 2).floor()) & (high > low))


def _sample(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """What masks (n, M, M) say of every pixel, linearly interpolated and continued past the box.

    torchvision cuts the masks that it learns from by a RoIAlign that takes pixel i to lie at i, not at i + 0.5.
    """
    cells = torch.arange(size, device=boxes.device, dtype=boxes.dtype)
    x1, y1, x2, y2 = boxes.unsqueeze(2).unbind(dim=1)
    across = 2 * (cells - x1) / (x2 - x1).clamp(min=1e-6) - 1
    down = 2 * (cells - y1) / (y2 - y1).clamp(min=1e-6) - 1
    grid = torch.stack([across.unsqueeze(1).expand(-1, size, -1), down.unsqueeze(2).expand(-1, -1, size)], dim=3)
    return F.grid_sample(masks.unsqueeze(1), grid.clamp(-2, 2), padding_mode="border", align_corners=False)[:, 0]
