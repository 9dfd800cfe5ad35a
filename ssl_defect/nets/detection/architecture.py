"""What every architecture is to the head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

Levels = list[Tensor]
Truth = list[dict[str, Tensor]]
"""For each picture "boxes" (n, 4), "labels" (n,) from 1 on, and "masks" uint8 (n, S, S) where there are any."""
Found = list[dict[str, Tensor]]
"""For each picture "boxes" (n, 4), "scores" (n,) falling, "labels" (n,), and "masks" (n, 1, 28, 28) if any."""


@dataclass(frozen=True)
class Plan:
    """What an architecture is built from.

    Attributes:
        classes: number of defect classes.
        size: side of the pictures, in pixels.
        width: channels of the levels.
        strides: of the levels, in pixels.
        threshold: detections of a lower score are dropped.
        nms: overlap from which on the lower of two detections of one class is dropped.
        most: detections of a picture.
    """

    classes: int
    size: int
    width: int
    strides: list[float]
    threshold: float
    nms: float
    most: int

    def images(self, levels: Levels) -> ImageList:
        """The pictures, as torchvision passes them on: only their sizes are read."""
        return ImageList(levels[0], [(self.size, self.size)] * len(levels[0]))


class Architecture(nn.Module):
    """Levels to losses and detections.

    Attributes:
        weights: its losses, and the weight that each has if nothing else is said.
    """

    weights: ClassVar[dict[str, float]] = {"class": 1.0, "box": 1.0}

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def compute(self, levels: Levels, truth: Truth) -> dict[str, Tensor]:
        """The losses, unweighted, by the names of `weights`."""
        raise NotImplementedError

    def detect(self, levels: Levels) -> Found:
        """At most `plan.most` detections of each picture."""
        raise NotImplementedError


class Backbone(nn.Identity):
    """Stands for the backbone in torchvision's detectors, which ask for its width; the encoder is applied outside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_channels = width


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[Any]:
    """Train or eval mode for a while: torchvision's detectors give losses in the one, detections in the other."""
    before = module.training
    module.train(training)
    try:
        yield module
    finally:
        module.train(before)
