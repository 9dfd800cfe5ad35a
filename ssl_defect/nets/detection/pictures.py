"""Detections as a head gives them, padded, beside the truth: ready to be matched."""

from __future__ import annotations

import numpy as np
import torch

from ssl_defect.nets.detection.matching import Array, Picture, box_picture, mask_picture
from ssl_defect.nets.detection.paint import paste_masks

CUT = 0.5  # probability from which on a pixel belongs to a mask


def picture_of_boxes(found: dict[str, Array], true_boxes: Array, true_classes: Array) -> Picture:
    """One picture's boxes.

    Args:
        found: "boxes" (D, 4), "box_scores" (D,) and "box_classes" (D,) of the picture, score 0 where there is no box.
        true_boxes, true_classes: (m, 4) and (m,).
    """
    kept = found["box_scores"] > 0
    boxes, scores, classes = (found[name][kept] for name in ("boxes", "box_scores", "box_classes"))
    return box_picture(boxes, scores, classes, true_boxes, true_classes)


def picture_of_masks(found: dict[str, Array], parts: Array, true_classes: Array) -> Picture:
    """One picture's masks.

    Args:
        found: as `picture_of_boxes`, and "box_masks" (D, 28, 28).
        parts: (S, S) number of the part of each pixel, from 1 on.
        true_classes: (m,) classes of the parts in the order of their numbers.
    """
    kept = found["box_scores"] > 0
    boxes, masks = (torch.from_numpy(np.asarray(found[name][kept], np.float32)) for name in ("boxes", "box_masks"))
    pasted = (paste_masks(masks, boxes, parts.shape[-1]) >= CUT).numpy()
    true = parts[None] == np.arange(1, len(true_classes) + 1)[:, None, None]
    return mask_picture(pasted, found["box_scores"][kept], found["box_classes"][kept], true, true_classes)
