"""Detection: a box around every defect."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ssl_defect.data.augment import Geometry
from ssl_defect.finetune.box_task import BoxOptions, BoxTask, check_losses
from ssl_defect.finetune.mosaic import mixup, mosaic
from ssl_defect.finetune.task import Batch


class Options(BoxOptions):
    """Settings of detection."""

    architecture: Literal["faster_rcnn", "ssd", "retinanet", "fcos", "yolox"] = Field(
        "faster_rcnn", description="Two stages, one stage with anchors (ssd, retinanet) or without (fcos, yolox)."
    )
    mosaic: float = Field(0.0, ge=0, le=1, description="Share of the batches in which four pictures make one.")
    mixup: float = Field(0.0, ge=0, le=1, description="Share of the batches in which a picture lies over another.")
    plain_end: float = Field(0.15, ge=0, le=1, description="Last share of the steps, without mosaic and mixup.")

    @model_validator(mode="after")
    def _known_losses(self) -> Options:
        from ssl_defect.nets.detection.head import ARCHITECTURES

        check_losses(self.losses, ARCHITECTURES[self.architecture].weights, self.architecture)
        return self


class Detection(BoxTask):
    """An architecture on the encoder's pyramid, from boxes that are annotated or surround the parts of masks."""

    options: Options

    def view(
        self, images: Tensor, geometry: Geometry, batch: Batch, progress: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Mosaic and mixup besides, except in the last share of the steps."""
        images, boxes, classes, _ = super().view(images, geometry, batch, progress)
        draw: torch.Generator = batch["generator"]  # type: ignore[assignment]
        for share, mix in ((self.options.mosaic, mosaic), (self.options.mixup, mixup)):
            wanted = share > 0 and progress < 1 - self.options.plain_end
            if wanted and torch.rand((), generator=draw, device=draw.device).item() < share:
                images, boxes, classes = mix(images, boxes, classes, draw)
        return images, boxes, classes, None


TASK = Detection
