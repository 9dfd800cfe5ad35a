"""The head that an anomaly detector's options name, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.nets.backbones import Encoder

if TYPE_CHECKING:
    from ssl_defect.nets.anomaly.base import AnomalyHead


def anomaly_head(encoder: Encoder, classes: list[str], options: Mapping[str, Any]) -> AnomalyHead:
    """A head as yet without what it learns."""
    name: str = options["detector"]
    found: AnomalyHead = import_module(DETECTORS[name][0]).HEADS[name](encoder, options)
    return found
