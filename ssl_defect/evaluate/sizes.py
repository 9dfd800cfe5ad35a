"""How small a defect is still found: recall by the share of the picture that is drawn as defective."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.evaluate.metrics import Array
from ssl_defect.evaluate.shares import share_of

PARTS = 4
FEWEST = 20  # defective images with a mask, below which sizes are not told apart


def recall_by_area(areas: Array, hits: Array, groups: Array, level: float) -> list[dict[str, Any]] | None:
    """The block "sizes" of `metrics.json`; None where fewer than `FEWEST` defective test images have a drawn mask.

    `{"area": [smallest, largest], "images", "groups", "recall": {"value", "low", "high"}}` of each quarter.

    Args:
        areas: (n,) of defective images, in (0, 1].
        hits: (n,) whether each is called defective.
        groups: (n,) near-copy group of each.
    """
    if len(areas) < FEWEST:
        return None
    rows = []
    for part in quarters(areas):
        rows.append(
            {
                "area": [float(areas[part].min()), float(areas[part].max())],
                "images": len(part),
                "groups": len(np.unique(groups[part])),
                "recall": share_of(hits[part], groups[part], level),
            }
        )
    return rows


def quarters(areas: Array) -> list[Array]:
    """Positions in four parts of about equal number by rising area; equal areas stay together, empty parts are out."""
    limits = np.quantile(areas, np.arange(1, PARTS) / PARTS, method="inverted_cdf")
    places = np.searchsorted(limits, areas, side="left")
    return [np.flatnonzero(places == place) for place in np.unique(places)]
