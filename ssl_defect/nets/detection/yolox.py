"""YOLOX, Ge et al. 2021 (arXiv:2107.08430): no anchors, a decoupled head, SimOTA. Here with GroupNorm and GIoU."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, generalized_box_iou_loss

from ssl_defect.nets.detection.architecture import Architecture, Found, Levels, Plan, Truth
from ssl_defect.nets.detection.neck import cell_centres, group_norm
from ssl_defect.nets.detection.simota import Cells, assign

PRIOR = 0.01  # probability of an object and of each class before training
LARGEST = 8.0  # logarithm of the longest side in strides
CANDIDATES = 1000  # before the NMS


class Outputs(NamedTuple):
    """What all cells say: "edges" (B, A, 4) relative to the cell, logits "objects" (B, A) and "classes" (B, A, K)."""

    edges: Tensor
    objects: Tensor
    classes: Tensor
    centres: Tensor
    strides: Tensor

    @property
    def boxes(self) -> Tensor:
        """(B, A, 4) in pixels."""
        stride = self.strides.unsqueeze(1)
        middle = self.centres + self.edges[..., :2] * stride
        half = self.edges[..., 2:].clamp(max=LARGEST).exp() * stride / 2
        return torch.cat([middle - half, middle + half], dim=2)


class Decoupled(nn.Module):
    """The head of one level: a branch for the class, another for the box and whether there is one."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = _conv(width, 1)
        self.class_branch = nn.Sequential(_conv(width), _conv(width))
        self.box_branch = nn.Sequential(_conv(width), _conv(width))
        self.classes, self.edges, self.object = (nn.Conv2d(width, n, 1) for n in (classes, 4, 1))
        for layer in (self.classes, self.object):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, width, h, w) -> edges (B, h w, 4), objects (B, h w, 1), classes (B, h w, K)."""
        x = self.stem(x)
        box = self.box_branch(x)
        maps = self.edges(box), self.object(box), self.classes(self.class_branch(x))
        return [part.flatten(2).transpose(1, 2) for part in maps]


class YOLOX(Architecture):
    """Every cell is one box; SimOTA says which learn, and defects of one pixel get some as well."""

    weights: ClassVar[dict[str, float]] = {"class": 1.0, "box": 5.0, "objectness": 1.0, "l1": 0.0}

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.heads = nn.ModuleList(Decoupled(plan.width, plan.classes) for _ in plan.strides)

    def compute(self, levels: Levels, truth: Truth) -> dict[str, Tensor]:
        """As the base says; the target of a class is the overlap with its defect."""
        out = self.outputs(levels)
        boxes, scores = out.boxes, _scores(out)
        pairs = [
            assign(Cells(box, score, out.centres, out.strides), picture["boxes"], picture["labels"] - 1)
            for box, score, picture in zip(boxes, scores, truth, strict=True)
        ]
        matched, overlaps = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        there = matched >= 0
        true = torch.cat([picture["boxes"][m[m >= 0]] for m, picture in zip(matched, truth, strict=True)])
        labels = torch.cat([picture["labels"][m[m >= 0]] for m, picture in zip(matched, truth, strict=True)])
        classes = F.one_hot(labels - 1, self.plan.classes) * overlaps[there].unsqueeze(1)
        count = max(len(true), len(truth))
        target = _relative(
            true, out.centres.expand(len(truth), -1, 2)[there], out.strides.expand(len(truth), -1)[there]
        )
        sums = {
            "class": F.binary_cross_entropy_with_logits(out.classes[there], classes, reduction="sum"),
            "box": generalized_box_iou_loss(boxes[there], true, reduction="sum"),
            "objectness": F.binary_cross_entropy_with_logits(out.objects, there.float(), reduction="sum"),
            "l1": F.l1_loss(out.edges[there], target, reduction="sum"),
        }
        return {name: value / count for name, value in sums.items()}

    def detect(self, levels: Levels) -> Found:
        """As the base says; the score is the probability of an object times that of the class."""
        out = self.outputs(levels)
        boxes = out.boxes.clamp(0, self.plan.size)
        return [self._best(*picture) for picture in zip(boxes, _scores(out), strict=True)]

    def outputs(self, levels: Levels) -> Outputs:
        """All cells of all levels, in reading order."""
        parts = [head(level) for head, level in zip(self.heads, levels, strict=True)]
        edges, objects, classes = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        strides = self.plan.strides
        centres = [cell_centres(level, stride) for level, stride in zip(levels, strides, strict=True)]
        each = [c.new_full((len(c),), stride) for c, stride in zip(centres, strides, strict=True)]
        return Outputs(edges, objects[..., 0], classes, torch.cat(centres), torch.cat(each))

    def _best(self, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
        flat, number = scores.flatten().topk(min(CANDIDATES, scores.numel()))
        number = number[flat > self.plan.threshold]
        cell, label = number // scores.shape[1], number % scores.shape[1]
        kept = batched_nms(boxes[cell], scores[cell, label], label, self.plan.nms)[: self.plan.most]
        cell, label = cell[kept], label[kept]
        return {"boxes": boxes[cell], "scores": scores[cell, label], "labels": label + 1}


def _scores(out: Outputs) -> Tensor:
    return out.classes.sigmoid() * out.objects.sigmoid().unsqueeze(2)


def _relative(boxes: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """What a cell with this centre and stride would have to say for these boxes (n, 4)."""
    stride = strides.unsqueeze(1)
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.cat([(middle - centres) / stride, (sides / stride).clamp(min=1e-6).log()], dim=1)


def _conv(width: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, group_norm(width), nn.SiLU(inplace=True))
