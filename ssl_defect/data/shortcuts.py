"""What gives a defect away without looking at it: the light of the whole picture.

A set whose good and defective parts were photographed on different days can be told apart by its brightness alone. A
detector then scores well and has learnt the day. On the test images of MVTec AD's screw, mean brightness alone has an
AUROC of 1.000, and the good ones among them are darker than those to train on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssl_defect.data.records import Sample

CHUNK = 256  # pictures held at a time


def shortcuts(images: NDArray[np.uint8], samples: Sequence[Sample]) -> dict[str, dict[str, float | None]]:
    """How well two numbers of the whole picture alone tell what only its content should.

    Args:
        images: (N, S, S, C) in [0, 255], row by row as `samples`; may be a memory map.
        samples: with their splits.

    Returns:
        {"brightness": mean, "contrast": standard deviation of all values} -> {"test": AUROC in [0, 1] of defective
        against good test images, above 0.5 where defective ones have more of it; "drift": AUROC of good test against
        good training images}; None where one side is missing.
    """
    splits = np.array([sample.split for sample in samples])
    good = np.array([sample.label == 0 for sample in samples])
    numbers = statistics(images)
    sides = {
        "test": (good & (splits == "test"), ~good & (splits == "test")),
        "drift": (good & (splits == "train"), good & (splits == "test")),
    }
    return {
        name: {what: separation(values[low], values[high]) for what, (low, high) in sides.items()}
        for name, values in numbers.items()
    }


def statistics(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Mean and standard deviation (N,) of each picture."""
    found = np.zeros((2, len(images)))
    for start in range(0, len(images), CHUNK):
        part = np.asarray(images[start : start + CHUNK], dtype=np.float32)
        found[:, start : start + CHUNK] = part.mean((1, 2, 3)), part.std((1, 2, 3))
    return {"brightness": found[0], "contrast": found[1]}


def separation(low: NDArray[np.float64], high: NDArray[np.float64]) -> float | None:
    """AUROC: the chance that one of `high` exceeds one of `low`, ties counted half; None where one is empty."""
    if not len(low) or not len(high):
        return None
    from sklearn.metrics import roc_auc_score  # slow to load

    labels = np.repeat([0, 1], [len(low), len(high)])
    return float(roc_auc_score(labels, np.concatenate([low, high])))
