"""What a detector says of one picture beyond good or defective, in a cell of a CSV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_defect.nets.detector import Spec

Outputs = Mapping[str, NDArray[Any]]
LIKELY = 0.5  # probability from which on a label is told


def finding(spec: Spec, outputs: Outputs, threshold: float, width: int, height: int) -> str:
    """The class, the labels, the value or the boxes; empty where the score says it all.

    Args:
        spec: the detector's.
        outputs: what it predicts of the one picture, without the axis of the batch.
        threshold: boxes of a lower score are not told.
        width, height: pixels of the picture itself; boxes come in these.

    Returns:
        `scratch`; `crack+spot`; `0.3333`; or `x1 y1 x2 y2 class score` in pixels, `; ` between boxes, the best first.
    """
    if "boxes" in outputs:
        return _boxes(spec, outputs, threshold, width, height)
    if "value" in outputs:
        return f"{float(outputs['value']):.4f}"
    if "labels" in outputs:
        names = spec.classes[1:]
        return "+".join(name for name, p in zip(names, outputs["labels"], strict=True) if p >= LIKELY)
    if "probabilities" in outputs and len(spec.classes) > 2:
        return spec.classes[int(outputs["probabilities"].argmax())]
    return ""


def box_edges(spec: Spec, outputs: Outputs, threshold: float) -> NDArray[np.float64] | None:
    """The boxes (n, 4) that are told, as shares of the picture in [0, 1], the best first; None for other tasks."""
    if "boxes" not in outputs:
        return None
    edges: NDArray[np.float64] = outputs["boxes"][_told(outputs, threshold)].astype(np.float64) / spec.image_size
    return edges


def _told(outputs: Outputs, threshold: float) -> NDArray[np.int64]:
    scores = outputs["box_scores"]
    order = np.argsort(-scores, kind="stable")
    return order[(scores[order] >= threshold) & (scores[order] > 0)]


def _boxes(spec: Spec, outputs: Outputs, threshold: float, width: int, height: int) -> str:
    edges = box_edges(spec, outputs, threshold)
    assert edges is not None
    told = _told(outputs, threshold)
    names = [spec.classes[int(number)] for number in outputs["box_classes"][told]]
    rows = zip(edges * [width, height, width, height], names, outputs["box_scores"][told], strict=True)
    return "; ".join(" ".join([*(f"{edge:.1f}" for edge in box), name, f"{score:.3f}"]) for box, name, score in rows)
