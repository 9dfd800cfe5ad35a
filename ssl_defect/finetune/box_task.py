"""What detection and instance segmentation share: options, boxes in the batch, losses and validation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.console import say
from ssl_defect.data.augment import Geometry
from ssl_defect.data.boxes import NONE, BoxTable, box_names, move_boxes, parts_of, read_boxes
from ssl_defect.data.records import GOOD
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.finetune.box_views import show_with_geometry
from ssl_defect.finetune.synthetic import Synthetic, add_drawn, refuse_classes
from ssl_defect.finetune.task import Batch, Task, Validation
from ssl_defect.finetune.views import Views
from ssl_defect.nets.detection.head import DetectionHead
from ssl_defect.nets.detection.matching import Array, Picture, average_precision, match_class
from ssl_defect.nets.detection.pictures import picture_of_boxes
from ssl_defect.nets.detector import Detector
from ssl_defect.train.batches import Extras

OVERLAP: Array = np.array([0.5])  # that a detection needs in validation

Rows = NDArray[np.int64]


class BoxOptions(Views):
    """Settings of every task that finds boxes."""

    target: Literal["binary", "defect"] = Field(
        "binary", description="`binary`: a box is a defect; `defect`: which of the set's defect classes."
    )
    smallest_part: int = Field(
        1, ge=1, description="Parts of a mask with fewer pixels, of the cached picture, are no defects."
    )
    width: int = Field(64, ge=32, le=512, multiple_of=32, description="Channels of the feature pyramid.")
    score_threshold: float = Field(0.001, ge=0, lt=1, description="Boxes of a lower score are dropped.")
    nms_iou: float = Field(0.5, gt=0, lt=1, description="Overlap from which on the lower of two boxes is dropped.")
    detections: int = Field(50, ge=1, le=500, description="Boxes of a picture at most.")
    losses: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="Weights of the architecture's losses by name, at least 0."
    )
    synthetic: Synthetic = Field(
        default_factory=Synthetic, description="Drawn defects on good pictures, with exact boxes; binary only."
    )

    @model_validator(mode="after")
    def _no_classes(self) -> BoxOptions:
        refuse_classes(self.synthetic, self.target)
        return self


def check_losses(given: dict[str, float], known: dict[str, float], architecture: str) -> None:
    """Refuse weights of losses that the architecture lacks, or weights that leave nothing to minimise.

    Raises:
        ValueError: with the names that are accepted.
    """
    wrong = sorted(set(given) - set(known))
    if wrong:
        raise ValueError(f"losses: {architecture} has no '{wrong[0]}'; accepted: {', '.join(known)}")
    if not any((known | given).values()):
        raise ValueError("losses: all weights are 0; give one of them a weight above 0")


class BoxTask(Task):
    """A head that finds boxes, and its losses."""

    annotated: ClassVar[bool] = True  # annotated boxes count where there are any, not only masks

    def __init__(self, detector: Detector, options: BoxOptions, store: Store) -> None:
        super().__init__(detector, options, store)
        self.options = options

    @property
    def head(self) -> DetectionHead:
        """The detector's head."""
        head = self.detector.head
        assert isinstance(head, DetectionHead)
        return head

    @property
    def losses(self) -> dict[str, float]:
        """Weights of the architecture's losses."""
        return self.head.architecture.weights | self.options.losses

    @staticmethod
    def classes(store: Store, options: BoxOptions) -> list[str]:  # type: ignore[override]
        """`good` and `defective`, or `good` and the classes of the set's defects."""
        return box_names(store) if options.target == "defect" else [GOOD, "defective"]

    @staticmethod
    def targets(store: Store, options: BoxOptions) -> NDArray[np.int64]:  # type: ignore[override]
        """(N,) 0 for good, 1 for defective images."""
        return store.labels

    @staticmethod
    def strata(store: Store, options: BoxOptions) -> NDArray[np.int64]:  # type: ignore[override]
        """(N,) good or defective, or the class of the image."""
        if options.target == "binary":
            return store.labels
        return store.class_numbers

    @classmethod
    def table(cls, store: Store, options: BoxOptions) -> BoxTable:
        """The boxes of all rows."""
        return read_boxes(store, cls.classes(store, options), options.smallest_part, annotated=cls.annotated)

    @classmethod
    def extras(cls, store: Store, options: BoxOptions) -> Extras | None:  # type: ignore[override]
        """Gives "boxes" float32 (B, M, 4) and "box_class" int64 (B, M), -1 where there is none."""
        return cls.table(store, options).batch

    @classmethod
    def usable(cls, store: Store, rows: Rows, options: BoxOptions) -> Rows:  # type: ignore[override]
        """Good images, and defective ones with a box at least; what is left out is said.

        Raises:
            UserError: no image has a box.
        """
        there = cls.table(store, options).counts[rows] > 0
        if not there.any() and options.synthetic.share and (store.labels[rows] == 0).any():
            say("finetune: no labelled defect: the detector learns from synthetic ones alone")
        elif not there.any():
            what = "an annotated box or a mask with a defect in it" if cls.annotated else "a mask with a defect in it"
            raise UserError(
                f"finetune: none of the {len(rows)} labelled training images has {what}; add some, "
                "raise finetune.labels_per_class, or set finetune.task to classification"
            )
        kept = there | (store.labels[rows] == 0)
        if not kept.all():
            say(f"finetune: {(~kept).sum()} defective images without a box are left out")
        return np.asarray(rows[kept], dtype=np.int64)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """-> "loss" and the architecture's losses, unweighted."""
        draw: torch.Generator = batch["generator"]  # type: ignore[assignment]
        images, geometry = show_with_geometry(batch["image"], self.views, draw)
        images, boxes, classes, parts = self.view(images, geometry, batch, progress)
        if self.options.synthetic.share:
            images, masks = add_drawn(images, (classes >= 0).any(dim=1), self.options.synthetic, draw)
            boxes, classes, parts = with_parts(boxes, classes, parts, masks)
        losses = self.head.losses(self.detector.encoder, images, boxes, classes, parts)
        return {"loss": self._sum(losses), **{name: loss.detach() for name, loss in losses.items()}}

    def view(
        self, images: Tensor, geometry: Geometry, batch: Batch, progress: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Pictures, boxes, classes and parts, as the geometry moves them."""
        return images, *move_boxes(geometry, batch["boxes"], batch["box_class"]), None

    def validation(self, batches: Iterable[Batch]) -> Validation:
        """Average precision at an overlap of 0.5, mean over the classes."""
        pictures: list[Picture] = []
        total = 0.0
        for batch in batches:
            images = batch["image"].float() / 255
            parts = batch.get("parts")
            losses = self.head.losses(self.detector.encoder, images, batch["boxes"], batch["box_class"], parts)
            total += self._sum(losses).item() * len(images)
            found = {name: value.float().cpu().numpy() for name, value in self.detector(images).items()}
            true = {name: batch[name].cpu().numpy() for name in ("boxes", "box_class", "parts") if name in batch}
            pictures += [
                self.picture({name: value[i] for name, value in found.items()}, {n: v[i] for n, v in true.items()})
                for i in range(len(images))
            ]
        loss = total / len(pictures)
        value = mean_precision(pictures)
        return Validation("-loss", -loss, loss) if value is None else Validation("AP50", value, loss)

    def picture(self, found: dict[str, Array], true: dict[str, Array]) -> Picture:
        """What was found in one picture, beside the truth."""
        there = true["box_class"] >= 0
        return picture_of_boxes(found, true["boxes"][there], true["box_class"][there])

    def _sum(self, losses: dict[str, Tensor]) -> Tensor:
        weights = self.losses
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def with_parts(
    boxes: Tensor, classes: Tensor, parts: Tensor | None, masks: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Boxes (B, M, 4), classes (B, M) and parts of pictures of which some got defects (masks (B, 1, S, S)).

    M grows where a picture has more new defects than there were places.
    """
    new = {i: parts_of(masks[i, 0].cpu().numpy()) for i in masks.flatten(1).any(dim=1).nonzero()[:, 0].tolist()}
    more = max([0, *(len(edges) for _, edges in new.values())]) - boxes.shape[1]
    boxes = F.pad(boxes, (0, 0, 0, max(more, 0)))
    classes = F.pad(classes, (0, max(more, 0)), value=NONE)
    parts = None if parts is None else parts.clone()
    for place, (numbers, edges) in new.items():
        boxes[place, : len(edges)] = torch.from_numpy(edges).to(boxes)
        classes[place, : len(edges)] = 1
        if parts is not None:
            parts[place, 0] = torch.from_numpy(numbers).to(parts)
    return boxes, classes, parts


def mean_precision(pictures: list[Picture]) -> float | None:
    """Average precision at an overlap of 0.5, mean over the classes of the defects; None without defects."""
    numbers = np.unique(np.concatenate([picture.true_classes for picture in pictures]))
    if not len(numbers):
        return None
    ones = np.ones((1, len(pictures)))
    found = [average_precision(match_class(pictures, int(number), OVERLAP), ones) for number in numbers]
    return float(np.mean(found))
