"""Which cells learn which defect: SimOTA, Ge et al. 2021 (arXiv:2107.08430, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

RADIUS = 2.5  # strides about the centre of a defect
OVERLAP_WEIGHT = 3.0
FAR = 1e5  # cost of a cell that is not both in the box and near its centre
NEVER = 1e9
CANDIDATES = 10  # best overlaps that decide how many cells a defect gets


@dataclass(frozen=True)
class Cells:
    """What the A cells of a picture say.

    Attributes:
        boxes: (A, 4) in pixels.
        scores: (A, K) probability of each class, with that of an object.
        centres: (A, 2) in pixels.
        strides: (A,) in pixels.
    """

    boxes: Tensor
    scores: Tensor
    centres: Tensor
    strides: Tensor


@torch.no_grad()
def assign(cells: Cells, true: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each defect gets the cells that it costs least, as many as its ten best overlaps add up to.

    The cost is that of the class plus three times `-log` of the overlap. A cell wanted by several goes to the cheapest.

    Args:
        true: (G, 4) boxes of the defects.
        labels: (G,) their classes, from 0 on.

    Returns:
        (A,) number of the defect of each cell, -1 for none, and (A,) the overlap with it.
    """
    if not len(true):
        return torch.full_like(cells.strides, -1, dtype=torch.int64), torch.zeros_like(cells.strides)
    overlaps = box_iou(true, cells.boxes)  # (G, A)
    here, there = _near(cells, true)
    possible = (here | there).any(dim=0)
    cost = class_cost(cells.scores, labels) - OVERLAP_WEIGHT * (overlaps + 1e-8).log()
    cost = torch.where(possible, cost + FAR * ~(here & there), NEVER)
    best = torch.where(possible, overlaps, 0).topk(min(CANDIDATES, overlaps.shape[1]), dim=1).values
    wanted = best.sum(dim=1).int().clamp(min=1)
    chosen = (cost.argsort(dim=1, stable=True).argsort(dim=1) < wanted.unsqueeze(1)) & possible
    owner = torch.where(chosen, cost, 2 * NEVER).argmin(dim=0)
    matched = torch.where(chosen.any(dim=0), owner, -1)
    return matched, torch.where(matched >= 0, overlaps.gather(0, owner.unsqueeze(0))[0], 0.0)


def class_cost(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy (G, A) of the cells' square-rooted scores (A, K) against each defect's class (G,)."""
    p = scores.sqrt().clamp(1e-7, 1 - 1e-7)
    against = -torch.log1p(-p)
    return (-p.log() - against)[:, labels].T + against.sum(dim=1)


def _near(cells: Cells, true: Tensor) -> tuple[Tensor, Tensor]:
    """Bool (G, A) each: the centre of the cell lies in the box, and within the radius about its centre."""
    offsets = cells.centres - ((true[:, :2] + true[:, 2:]) / 2).unsqueeze(1)
    low, high = cells.centres - true[:, None, :2], true[:, None, 2:] - cells.centres
    return torch.minimum(low, high).amin(dim=2) > 0, offsets.abs().amax(dim=2) < RADIUS * cells.strides
