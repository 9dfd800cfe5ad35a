"""Overlays: a picture with the detector's map and the outline of what it found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_defect.data.images import Pixels

LONGEST_STEM = 200  # characters of an overlay's name, below every file system's limit
EDGE = (255, 0, 255)  # colour of the contour: magenta stands out on metal as on the colours of the map

Map = NDArray[np.float32]
Boxes = NDArray[np.float64]


def overlay_names(paths: Sequence[Path]) -> list[str]:
    """A file name for each picture's overlay; the second `part.png` is `part-2.png`, whatever the letters' case."""
    taken: set[str] = set()
    names = []
    for path in paths:
        stem = name = path.stem[:LONGEST_STEM]
        number = 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        names.append(f"{name}.png")
    return names


def draw_overlay(pixels: Pixels, heat: Map, mask: NDArray[np.bool_] | None, boxes: Boxes | None = None) -> Pixels:
    """The picture with the map laid over it, the more the higher, and the mask's contour, or boxes in its place.

    Args:
        pixels: (H, W, 1 or 3).
        heat: (S, S) in [0, 1].
        mask: (S, S), drawn so that none of its cells is lost, or None.
        boxes: (n, 4) left, top, right and bottom edges as shares of the picture in [0, 1], or None.

    Returns:
        (H, W, 3) RGB.
    """
    height, width = pixels.shape[:2]
    base = np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)))
    weight = np.clip(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    colours = cv2.applyColorMap((weight * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    blended = cv2.blendLinear(base, np.ascontiguousarray(colours), 1 - weight / 2, weight / 2)
    thick = max(1, min(height, width) // 400)
    if boxes is not None:
        for left, top, right, bottom in np.rint(boxes * [width, height, width, height]).astype(int).tolist():
            cv2.rectangle(blended, (left, top), (max(left, right - 1), max(top, bottom - 1)), EDGE, thick)
    elif mask is not None and mask.any():
        grows = min(height, width) >= len(mask)
        how = cv2.INTER_NEAREST if grows else cv2.INTER_AREA
        whole = cv2.resize(mask.astype(np.float32), (width, height), interpolation=how) > 0
        contours, _ = cv2.findContours(whole.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(blended, contours, -1, EDGE, thick)
    return np.asarray(blended, dtype=np.uint8)


def save_overlay(
    path: Path, pixels: Pixels, heat: Map, mask: NDArray[np.bool_] | None, boxes: Boxes | None = None
) -> None:
    """Write `draw_overlay` as PNG."""
    image = draw_overlay(pixels, heat, mask, boxes)
    _, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    path.write_bytes(data.tobytes())
