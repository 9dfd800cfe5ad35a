"""The heads of boxes and instances, imported when they are asked for: torchvision's detectors take a while to load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ssl_defect.nets.backbones import Encoder

if TYPE_CHECKING:
    from ssl_defect.nets.detection.head import DetectionHead


def detection_head(encoder: Encoder, classes: list[str], options: Mapping[str, Any]) -> DetectionHead:
    """Boxes."""
    from ssl_defect.nets.detection.head import DetectionHead

    return DetectionHead(encoder, classes, options)


def instance_head(encoder: Encoder, classes: list[str], options: Mapping[str, Any]) -> DetectionHead:
    """Boxes with a mask each."""
    from ssl_defect.nets.detection.head import InstanceHead

    return InstanceHead(encoder, classes, options)
