"""Instance segmentation: a box around every defect, and the defect's mask within it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from ssl_defect.data.augment import Geometry
from ssl_defect.data.boxes import NONE, boxes_of_parts, move_parts, parts_of
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.finetune.box_task import BoxOptions, BoxTask, Rows, check_losses
from ssl_defect.finetune.task import Batch
from ssl_defect.nets.detection.matching import Array, Picture
from ssl_defect.nets.detection.pictures import picture_of_masks
from ssl_defect.train.batches import Extras


class Options(BoxOptions):
    """Settings of instance segmentation."""

    @model_validator(mode="after")
    def _known_losses(self) -> Options:
        from ssl_defect.nets.detection.two_stage import MaskRCNN

        check_losses(self.losses, MaskRCNN.weights, "Mask R-CNN")
        return self


class Instance(BoxTask):
    """Mask R-CNN on the encoder's pyramid; every connected part of a mask is an instance."""

    annotated: ClassVar[bool] = False

    @classmethod
    def extras(cls, store: Store, options: BoxOptions) -> Extras | None:  # type: ignore[override]
        """Gives "parts" int64 (B, 1, S, S) as well: the number of the box of each pixel, from 1 on."""
        table, masks = cls.table(store, options), store.masks
        if masks is None:
            return None

        def read(rows: Rows) -> dict[str, Tensor]:
            parts = np.stack([parts_of(masks[row], options.smallest_part)[0] for row in rows])
            return table.batch(rows) | {"parts": torch.from_numpy(parts).unsqueeze(1)}

        return read

    @classmethod
    def usable(cls, store: Store, rows: Rows, options: BoxOptions) -> Rows:  # type: ignore[override]
        """Good images, and defective ones with a mask that is not empty.

        Raises:
            UserError: no image has such a mask.
        """
        if store.masks is None:
            raise UserError("finetune: instance needs masks and this set has none; set finetune.task to detection")
        return super().usable(store, rows, options)

    def view(
        self, images: Tensor, geometry: Geometry, batch: Batch, progress: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The boxes are drawn anew around what the view shows of every part."""
        parts = move_parts(geometry, batch["parts"])
        boxes = boxes_of_parts(parts, batch["boxes"].shape[1])
        there = boxes[..., 2] > boxes[..., 0]
        return images, boxes, torch.where(there, batch["box_class"], NONE), parts

    def picture(self, found: dict[str, Array], true: dict[str, Array]) -> Picture:
        """Masks, not boxes."""
        return picture_of_masks(found, true["parts"][0], true["box_class"][true["box_class"] >= 0])


TASK = Instance
