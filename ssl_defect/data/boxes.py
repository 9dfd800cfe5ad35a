"""Boxes and parts of defects: from annotation or from masks, and moved along with the picture.

A box is (x1, y1, x2, y2) in pixels of the cached square picture; x2 and y2 are exclusive edges, so that a defect of one
pixel is one wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_defect.data.augment import Geometry
from ssl_defect.data.records import GOOD, Sample, parse_boxes
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError

VISIBLE = 0.25  # share of a box's area that a view must show
NONE = -1  # class of a place without a box

Rows = npt.NDArray[np.int64]
Edges = npt.NDArray[np.float32]
Mask = npt.NDArray[Any]


@dataclass(frozen=True)
class BoxTable:
    """The defects of every row of a store.

    Attributes:
        edges: float32 (n, 4) for each row.
        classes: int64 (n,) for each row, numbers of classes from 1 on.
    """

    edges: list[Edges]
    classes: list[Rows]

    @property
    def counts(self) -> Rows:
        """(N,) defects of each row."""
        return np.array([len(edges) for edges in self.edges], dtype=np.int64)

    @property
    def most(self) -> int:
        """Defects of the row that has most, at least 1: it fixes the shape of every batch."""
        return max(1, int(self.counts.max(initial=0)))

    def batch(self, rows: Rows) -> dict[str, Tensor]:
        """ "boxes" float32 (B, most, 4), and "box_class" int64 (B, most) with -1 where there is none."""
        boxes = np.zeros((len(rows), self.most, 4), dtype=np.float32)
        classes = np.full((len(rows), self.most), NONE, dtype=np.int64)
        for place, row in enumerate(rows):
            count = len(self.edges[row])
            boxes[place, :count], classes[place, :count] = self.edges[row], self.classes[row]
        return {"boxes": torch.from_numpy(boxes), "box_class": torch.from_numpy(classes)}


def box_names(store: Store) -> list[str]:
    """`good`, then the classes of all pictures and of all annotated boxes, in order."""
    named = {box.defect for sample in store.samples if sample.boxes for box in _parse(sample)} | store.names.boxes
    return [GOOD, *sorted((named | set(store.classes)) - {GOOD})]


def read_boxes(store: Store, classes: Sequence[str], least: int = 1, *, annotated: bool = True) -> BoxTable:
    """The boxes of every row: annotated ones, or those of the parts of the mask where nothing is annotated.

    Args:
        classes: names, `good` first. A box has the number of its class; that of a part is the picture's. With two
            names every box has number 1.
        least: pixels below which a part of a mask is no defect.
        annotated: take annotated boxes where there are any; else masks alone count.

    Raises:
        UserError: an annotated box lies outside its picture.
    """
    size = store.images.shape[1]
    numbers = {name: number if len(classes) > 2 else 1 for number, name in enumerate(classes)}
    edges: list[Edges] = []
    found: list[Rows] = []
    for row, sample in enumerate(store.samples):
        if annotated and sample.boxes:
            there, names = _annotated(sample, size)
        else:
            there = parts_of(store.masks[row], least)[1] if sample.label > 0 and store.masks is not None else _nothing()
            names = [sample.defect] * len(there)
        edges.append(there)
        found.append(np.array([numbers.get(name, 1) for name in names], dtype=np.int64))
    return BoxTable(edges, found)


def parts_of(mask: Mask, least: int = 1) -> tuple[npt.NDArray[np.int64], Edges]:
    """The connected parts of a mask, diagonal neighbours included.

    Args:
        mask: (S, S), defective where not 0.
        least: parts of fewer pixels are dropped.

    Returns:
        int64 (S, S) with the number of the part of each pixel, from 1 on and 0 for none, and the boxes (n, 4) of the
        parts in the order of their numbers.
    """
    import cv2

    _, numbers, stats, _ = cv2.connectedComponentsWithStats((np.asarray(mask) > 0).astype(np.uint8), connectivity=8)
    kept = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= least)
    kept = kept[kept > 0]  # 0 is the background
    renumbered = np.zeros(len(stats), dtype=np.int64)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    left, top, width, height = stats[kept, :4].T
    edges = np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)
    return renumbered[numbers], edges


def move_boxes(geometry: Geometry, boxes: Tensor, classes: Tensor, visible: float = VISIBLE) -> tuple[Tensor, Tensor]:
    """Boxes under the geometry that moves their pictures, cut at the border of the view.

    Args:
        boxes: (B, M, 4) in pixels of the pictures.
        classes: (B, M), -1 where there is no box.
        visible: a box that shows less than this share of its area is dropped.

    Returns:
        (B, M, 4) in pixels of the views, 0 where there is none, and (B, M), -1 where there is none.
    """
    out = geometry.rows.shape[1]
    x1, y1, x2, y2 = boxes.unbind(dim=2)
    turned = geometry.transposed.view(-1, 1)
    x1, y1 = torch.where(turned, y1, x1), torch.where(turned, x1, y1)
    x2, y2 = torch.where(turned, y2, x2), torch.where(turned, x2, y2)
    top, left, height, width = geometry.boxes.unsqueeze(2).unbind(dim=1)
    x1, x2 = _flipped((x1 - left) / width * out, (x2 - left) / width * out, geometry.columns)
    y1, y2 = _flipped((y1 - top) / height * out, (y2 - top) / height * out, geometry.rows)
    return clip_boxes(torch.stack([x1, y1, x2, y2], dim=2), classes, boxes.new_tensor([0, 0, out, out]), visible)


def clip_boxes(boxes: Tensor, classes: Tensor, frame: Tensor, visible: float = VISIBLE) -> tuple[Tensor, Tensor]:
    """Boxes (..., 4) cut at `frame`, edges that broadcast against them; too little visible ones become class -1."""
    cut = torch.cat([torch.maximum(boxes[..., :2], frame[..., :2]), torch.minimum(boxes[..., 2:], frame[..., 2:])], -1)
    before, after = area_of(boxes), area_of(cut)
    kept = (classes >= 0) & (after > 0) & (after >= visible * before)
    return torch.where(kept.unsqueeze(-1), cut, 0.0), torch.where(kept, classes, NONE)


def area_of(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4); 0 where an edge lies on the wrong side."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def move_parts(geometry: Geometry, parts: Tensor) -> Tensor:
    """Numbers of parts (B, 1, S, S) moved along by the nearest pixel; a crop that enlarges loses no pixel within it."""
    turned = torch.where(geometry.transposed.view(-1, 1, 1), parts[:, 0].transpose(1, 2), parts[:, 0])
    rows, columns = geometry.rows.argmax(dim=2), geometry.columns.argmax(dim=2)
    out = rows.shape[1]
    taken = turned.gather(1, rows.unsqueeze(2).expand(-1, -1, turned.shape[2]))
    return taken.gather(2, columns.unsqueeze(1).expand(-1, out, -1)).unsqueeze(1)


def boxes_of_parts(parts: Tensor, most: int) -> Tensor:
    """The boxes (B, most, 4) around parts (B, 1, S, S) numbered from 1 on; 0 where a part has no pixel."""
    count, _, height, width = parts.shape
    flat = parts.flatten(1)
    ys = torch.arange(height, device=parts.device).view(-1, 1).expand(height, width).flatten().expand(count, -1)
    xs = torch.arange(width, device=parts.device).expand(height, width).flatten().expand(count, -1)
    low = torch.full((count, most + 1), max(height, width), device=parts.device)
    high = torch.full((count, most + 1), -1, device=parts.device)
    x1, y1 = low.scatter_reduce(1, flat, xs, "amin"), low.scatter_reduce(1, flat, ys, "amin")
    x2, y2 = high.scatter_reduce(1, flat, xs, "amax"), high.scatter_reduce(1, flat, ys, "amax")
    boxes = torch.stack([x1, y1, x2 + 1, y2 + 1], dim=2)[:, 1:].float()
    return torch.where(boxes[..., 2:3] > 0, boxes, 0.0)


def _annotated(sample: Sample, size: int) -> tuple[Edges, list[str]]:
    boxes = _parse(sample)
    width, height = sample.width or size, sample.height or size
    edges = np.array([[box.x1, box.y1, box.x2, box.y2] for box in boxes])
    cut = np.clip(edges, 0, [width, height, width, height])
    bad = np.flatnonzero((cut[:, 2] <= cut[:, 0]) | (cut[:, 3] <= cut[:, 1]))
    if len(bad):
        raise UserError(
            f"{sample.image}: the box '{boxes[bad[0]]}' lies outside the picture of {width} x {height} pixels; "
            "correct the annotation and prepare again"
        )
    scale = np.array([size / width, size / height] * 2)
    return (cut * scale).astype(np.float32), [box.defect for box in boxes]


def _parse(sample: Sample) -> Any:
    try:
        return parse_boxes(sample.boxes)
    except ValueError as error:
        raise UserError(f"{sample.image}: {error}; run `ssl-defect prepare` again") from error


def _nothing() -> Edges:
    return np.zeros((0, 4), dtype=np.float32)


def _flipped(low: Tensor, high: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Edges (B, M) along one axis of the view, mirrored where the weights (B, out, S) read the source backwards."""
    out, size = weights.shape[1:]
    cells = torch.arange(size, device=weights.device, dtype=weights.dtype)
    back = (weights[:, -1] @ cells < weights[:, 0] @ cells).view(-1, 1)
    return torch.where(back, out - high, low), torch.where(back, out - low, high)
