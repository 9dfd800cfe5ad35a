"""One stage: every cell of every level says what is there. RetinaNet, FCOS and SSD of torchvision."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection
from torchvision.models.detection import ssd
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou

from ssl_defect.nets.detection.architecture import Architecture, Backbone, Found, Levels, Plan, Truth
from ssl_defect.nets.detection.neck import Anchors, group_norm

CANDIDATES = 400  # of each level before the NMS
NEGATIVES = 3  # anchors without a defect that SSD learns from, for each with one
NAMES = {"classification": "class", "bbox_regression": "box", "bbox_ctrness": "centerness"}


class OneStage(Architecture):
    """What RetinaNet and FCOS share: classes are numbered without a background."""

    model: Any

    def settings(self) -> dict[str, Any]:
        """What all of torchvision's classes take."""
        plan = self.plan
        limits = {"score_thresh": plan.threshold, "nms_thresh": plan.nms, "detections_per_img": plan.most}
        return limits | {"topk_candidates": CANDIDATES}

    def compute(self, levels: Levels, truth: Truth) -> dict[str, Tensor]:
        """As the base says."""
        known = [{"boxes": picture["boxes"], "labels": picture["labels"] - 1} for picture in truth]
        anchors = self.model.anchor_generator(self.plan.images(levels), levels)
        losses = self.model.compute_loss(known, self.model.head(levels), anchors, *self._places(levels))
        return {NAMES[name]: loss for name, loss in losses.items()}

    def detect(self, levels: Levels) -> Found:
        """As the base says."""
        images, outputs = self.plan.images(levels), self.model.head(levels)
        each = self.model.anchor_generator.num_anchors_per_location()[0]
        counts = [level.shape[2] * level.shape[3] * each for level in levels]
        anchors = [list(part.split(counts)) for part in self.model.anchor_generator(images, levels)]
        split = {name: list(output.split(counts, dim=1)) for name, output in outputs.items()}
        found = self.model.postprocess_detections(split, anchors, images.image_sizes)
        return [picture | {"labels": picture["labels"] + 1} for picture in found]

    def _places(self, levels: Levels) -> list[Any]:
        return []


class RetinaNet(OneStage):
    """RetinaNet, Lin et al. 2017 (arXiv:1708.02002): anchors and the focal loss; with GroupNorm."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        anchors = Anchors(plan.strides)
        head = RetinaNetHead(plan.width, anchors.num_anchors_per_location()[0], plan.classes, group_norm)
        self.model = detection.RetinaNet(
            Backbone(plan.width), plan.classes, anchor_generator=anchors, head=head, **self.settings()
        )


class FCOS(OneStage):
    """FCOS, Tian et al. 2019 (arXiv:1904.01355): no anchors, the distances to the four edges and the centerness.

    A box that holds no centre of a cell is never learnt, so that defects below 4 pixels may be missed.
    """

    weights: ClassVar[dict[str, float]] = {"class": 1.0, "box": 1.0, "centerness": 1.0}

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.model = detection.FCOS(
            Backbone(plan.width),
            plan.classes,
            anchor_generator=Anchors(plan.strides, (1.0,), (1.0,)),
            head=FCOSHead(plan.width, 1, plan.classes),
            **self.settings(),
        )

    def _places(self, levels: Levels) -> list[Any]:
        return [[level.shape[2] * level.shape[3] for level in levels]]


class SSD(OneStage):
    """SSD, Liu et al. 2016 (arXiv:1512.02325): anchors, a softmax with a background, hard negatives.

    Here the hardest negatives are those of the whole batch. Picture by picture, as in torchvision, pictures without a
    defect would teach nothing.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        anchors = Anchors(plan.strides)
        widths = [plan.width] * len(plan.strides)
        head = ssd.SSDHead(widths, anchors.num_anchors_per_location(), plan.classes + 1)
        _start_small(head)
        side = (plan.size, plan.size)
        self.model = ssd.SSD(Backbone(plan.width), anchors, side, plan.classes + 1, head=head, **self.settings())

    def compute(self, levels: Levels, truth: Truth) -> dict[str, Tensor]:
        """As the base says."""
        outputs = self.model.head(levels)
        anchors = self.model.anchor_generator(self.plan.images(levels), levels)
        matched = [self._match(one, picture["boxes"]) for one, picture in zip(anchors, truth, strict=True)]
        losses = self.model.compute_loss(truth, outputs, anchors, matched)
        labels = torch.stack([_labels(one, picture["labels"]) for one, picture in zip(matched, truth, strict=True)])
        return {"class": hard_cross_entropy(outputs["cls_logits"], labels), "box": losses["bbox_regression"]}

    def detect(self, levels: Levels) -> Found:
        """As the base says."""
        images = self.plan.images(levels)
        anchors = self.model.anchor_generator(images, levels)
        found: Found = self.model.postprocess_detections(self.model.head(levels), anchors, images.image_sizes)
        return found

    def _match(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Number of the box of each anchor, -1 for none."""
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        matched: Tensor = self.model.proposal_matcher(box_iou(boxes, anchors))
        return matched


def hard_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the anchors with a defect and of the hardest without, 3 for each, over their number.

    Args:
        logits: (B, A, K), class 0 is the background.
        labels: (B, A) class numbers.
    """
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    positive = labels.flatten() > 0
    count = max(int(positive.sum()), len(labels))  # one for each picture at least
    hardest = each.masked_fill(positive, 0).topk(min(NEGATIVES * count, len(each))).values
    return (each[positive].sum() + hardest.sum()) / count


def _start_small(head: nn.Module) -> None:
    """Begin with outputs near 0, as the other heads do: hard negatives would make the most of any others."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)


def _labels(matched: Tensor, labels: Tensor) -> Tensor:
    if not len(labels):
        return torch.zeros_like(matched)
    return torch.where(matched >= 0, labels[matched.clamp(min=0)], 0)
