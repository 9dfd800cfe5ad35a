"""Heads that find boxes: an encoder's maps, a neck, and one of several architectures; in float32 throughout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.detection.architecture import Architecture, Found, Plan, Truth, mode
from ssl_defect.nets.detection.neck import Neck
from ssl_defect.nets.detection.one_stage import FCOS, SSD, RetinaNet
from ssl_defect.nets.detection.paint import box_map
from ssl_defect.nets.detection.two_stage import FasterRCNN, MaskRCNN
from ssl_defect.nets.detection.yolox import YOLOX
from ssl_defect.nets.heads import Head

ARCHITECTURES: dict[str, type[Architecture]] = {
    "faster_rcnn": FasterRCNN,
    "ssd": SSD,
    "retinanet": RetinaNet,
    "fcos": FCOS,
    "yolox": YOLOX,
}
EPSILON = 1e-6


class DetectionHead(Head):
    """Boxes with a score and a class each.

    Options:
        architecture: a name of `ARCHITECTURES`.
        width: channels of the neck, a multiple of 32.
        score_threshold: detections of a lower score are dropped.
        nms_iou: overlap from which on the lower of two boxes of one class is dropped.
        detections: number of boxes that every picture is given, those left over with score 0.
    """

    def __init__(self, encoder: Encoder, classes: list[str], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.size, self.most = encoder.image_size, int(options["detections"])
        self.neck = Neck(encoder, options["width"])
        plan = Plan(
            classes=len(classes) - 1,
            size=self.size,
            width=self.neck.width,
            strides=self.neck.strides,
            threshold=options["score_threshold"],
            nms=options["nms_iou"],
            most=self.most,
        )
        self.architecture = self.choose(options)(plan)

    def choose(self, options: Mapping[str, Any]) -> type[Architecture]:
        """The class of what stands on the neck."""
        return ARCHITECTURES[options["architecture"]]

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """The detections, as in eval mode.

        Returns:
            "boxes" (B, D, 4) in pixels, "box_scores" (B, D) falling in [0, 1] and 0 where there is no box,
            "box_classes" int64 (B, D), 0 where there is none; and "logits" (B, 2), 0 for good and the log-odds of the
            best box, for explaining a picture.
        """
        with mode(self, False):
            maps = encoder.pyramid(x)
            with torch.autocast(x.device.type, enabled=False):
                levels = self.neck([level.float() for level in maps])
                found = self._padded(self.architecture.detect(levels))
        best = found["box_scores"].amax(dim=1) + 0 * levels[0].mean(dim=(1, 2, 3))  # a gradient even without a box
        log_odds = best.clamp(EPSILON, 1 - EPSILON).logit()
        return {**found, "logits": torch.stack([torch.zeros_like(log_odds), log_odds], dim=1)}

    def losses(
        self, encoder: Encoder, images: Tensor, boxes: Tensor, classes: Tensor, parts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The losses of the architecture, unweighted float32 scalars.

        Args:
            images: (B, C, S, S) in [0, 1].
            boxes: (B, M, 4) in pixels.
            classes: (B, M) from 1 on, -1 where there is no box.
            parts: (B, 1, S, S) number of the box, from 1 on, that each pixel belongs to; where masks are learnt.
        """
        maps = encoder.pyramid(images)
        with torch.autocast(images.device.type, enabled=False):
            levels = self.neck([level.float() for level in maps])
            return self.architecture.compute(levels, _truth(boxes, classes, parts))

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> "score" (B,), that of the best box, "map" (B, S, S), that of the best box over each pixel, and boxes."""
        found = {name: value.detach() for name, value in outputs.items() if name != "logits"}
        boxes, scores = found["boxes"], found["box_scores"].clamp(0, 1)
        covered = box_map(boxes, scores, self.size, found.get("box_masks"))
        return {"score": scores.amax(dim=1), "map": covered, **found, "box_scores": scores}

    def _padded(self, found: Found) -> dict[str, Tensor]:
        first = found[0]["boxes"]
        boxes = first.new_zeros(len(found), self.most, 4)
        scores = first.new_zeros(len(found), self.most)
        classes = torch.zeros(len(found), self.most, dtype=torch.int64, device=first.device)
        for number, picture in enumerate(found):
            count = min(len(picture["scores"]), self.most)
            boxes[number, :count] = picture["boxes"][:count]
            scores[number, :count] = picture["scores"][:count]
            classes[number, :count] = picture["labels"][:count]
        return {"boxes": boxes, "box_scores": scores, "box_classes": classes}


class InstanceHead(DetectionHead):
    """Boxes with a mask each, by Mask R-CNN; options as `DetectionHead`, without the architecture."""

    def choose(self, options: Mapping[str, Any]) -> type[Architecture]:
        """Mask R-CNN."""
        return MaskRCNN

    def _padded(self, found: Found) -> dict[str, Tensor]:
        """Adds "box_masks" (B, D, 28, 28), probabilities within the boxes."""
        side = found[0]["masks"].shape[-1]
        masks = found[0]["boxes"].new_zeros(len(found), self.most, side, side)
        for number, picture in enumerate(found):
            count = min(len(picture["masks"]), self.most)
            masks[number, :count] = picture["masks"][:count, 0]
        return {**super()._padded(found), "box_masks": masks}


def _truth(boxes: Tensor, classes: Tensor, parts: Tensor | None) -> Truth:
    truth = []
    for number in range(len(boxes)):
        there = torch.nonzero(classes[number] >= 0)[:, 0]
        picture = {"boxes": boxes[number, there].float(), "labels": classes[number, there]}
        if parts is not None:
            picture["masks"] = (parts[number] == there.view(-1, 1, 1) + 1).to(torch.uint8)
        truth.append(picture)
    return truth
