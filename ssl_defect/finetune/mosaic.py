"""Four pictures in one, and one laid over another, with their boxes: the strong views of YOLOX.

Ge et al. 2021 (arXiv:2107.08430, section 2.1); the mosaic is that of Bochkovskiy et al. 2020 (arXiv:2004.10934).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_defect.data.boxes import clip_boxes

REACH = 0.25  # the four pictures meet at least this share of the side from the border


def mosaic(images: Tensor, boxes: Tensor, classes: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Each picture in the corner of a window with three others of the batch, at their own scale, so that none shrinks.

    Args:
        images: (B, C, S, S).
        boxes: (B, M, 4) in pixels.
        classes: (B, M), -1 where there is no box.

    Returns:
        The same of shapes (B, C, S, S), (B, 4 M, 4) and (B, 4 M).
    """
    count, size = len(images), images.shape[-1]
    others = torch.stack([torch.randperm(count, generator=draw, device=draw.device) for _ in range(3)])
    sources = torch.cat([torch.arange(count, device=draw.device)[None], others])
    centres = REACH + (1 - 2 * REACH) * torch.rand(count, 2, generator=draw, device=draw.device)
    mixed, frames, shifts = torch.empty_like(images), [], []
    for place, (y, x) in enumerate((centres * size).round().long().tolist()):
        for corner, source in enumerate(sources[:, place].tolist()):
            rows, from_rows = _halves(y, size, corner // 2 == 1)
            columns, from_columns = _halves(x, size, corner % 2 == 1)
            mixed[place, :, rows, columns] = images[source, :, from_rows, from_columns]
            frames.append([columns.start, rows.start, columns.stop, rows.stop])
            shifts.append([columns.start - from_columns.start, rows.start - from_rows.start] * 2)
    shift, frame = (boxes.new_tensor(edges).view(count, 4, 1, 4) for edges in (shifts, frames))
    moved, kept = clip_boxes(boxes[sources.T] + shift, classes[sources.T], frame)  # (B, 4, M, 4)
    return mixed, moved.flatten(1, 2), kept.flatten(1)


def mixup(images: Tensor, boxes: Tensor, classes: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of each picture and another of the batch, with the boxes of both: (B, 2 M, 4) and (B, 2 M)."""
    other = torch.randperm(len(images), generator=draw, device=draw.device)
    mixed = (images + images[other]) / 2
    return mixed, torch.cat([boxes, boxes[other]], dim=1), torch.cat([classes, classes[other]], dim=1)


def _halves(meet: int, size: int, after: bool) -> tuple[slice, slice]:
    """Where a picture stands along one axis of the window, and which of its pixels: its far end or its beginning."""
    return (slice(meet, size), slice(0, size - meet)) if after else (slice(0, meet), slice(size - meet, size))
