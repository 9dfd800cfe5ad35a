"""From distances to scores: by good validation images alone, or by those and the defects that are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.base import AnomalyHead, enlarged
from ssl_defect.nets.detector import Detector

Distances = NDArray[np.float64]
LEAST = 2  # of either kind, for two parameters


@dataclass(frozen=True)
class Found:
    """Distances of images (n,), and of each the quantile of its pixels' distances; empty where there is no map."""

    images: Distances
    pixels: Distances


def distances(detector: Detector, batches: Iterator[Tensor], quantile: float) -> Found:
    """What the detector finds in pictures (B, C, S, S).

    Raises:
        UserError: a distance is NaN or infinite.
    """
    head = detector.head
    assert isinstance(head, AnomalyHead)
    images, pixels = [np.zeros(0)], [np.zeros(0)]
    for x in batches:
        found = head(detector.encoder, x)
        images.append(found["distance"].double().cpu().numpy())
        if "distances" in found:
            flat = enlarged(found["distances"], head.size).flatten(1).double().cpu().numpy()
            pixels.append(np.quantile(flat, quantile, axis=1))
    every = Found(np.concatenate(images), np.concatenate(pixels))
    if not (np.isfinite(every.images).all() and np.isfinite(every.pixels).all()):
        raise UserError("anomaly: the detector gives NaN or infinity on validation images; choose another encoder")
    return every


def set_scales(head: AnomalyHead, good: Found, quantile: float) -> None:
    """A score of 0.5 for the quantile of good images' distances; of pixels the median image's quantile."""
    pixel = torch.tensor(float(np.median(good.pixels))) if len(good.pixels) else None
    head.calibrate(torch.tensor(float(np.quantile(good.images, quantile))), pixel)


def set_probability(head: AnomalyHead, images: Distances, labels: NDArray[Any]) -> None:
    """Scores that are probabilities: a logistic regression of the label on the logarithm of the distance.

    Platt 1999, Probabilistic outputs for support vector machines, with his targets (N + 1) / (N + 2) and 1 / (N + 2)
    that keep a few defects from making it certain. They hold for the share of defects that the validation images
    have.

    Args:
        images: (n,) distances.
        labels: (n,) 0 good, 1 defective.

    Raises:
        UserError: too few images of a kind, or defects are not the farther ones.
    """
    from scipy.optimize import minimize

    bad, good = int((labels > 0).sum()), int((labels == 0).sum())
    if min(bad, good) < LEAST:
        raise UserError(
            f"anomaly.options.calibration: logistic needs {LEAST} good and {LEAST} defective validation images, there "
            f"are {good} and {bad}; raise data.val_share, or take quantile"
        )
    x = np.log(np.maximum(images, np.finfo(np.float32).tiny))
    middle, spread = x.mean(), max(x.std(), 1e-12)
    z = (x - middle) / spread
    target = np.where(labels > 0, (bad + 1) / (bad + 2), 1 / (good + 2))

    def entropy(line: Distances) -> float:
        logit = line[0] * z + line[1]
        return float((np.logaddexp(0, logit) - target * logit).sum())

    slope, offset = minimize(entropy, np.array([1.0, 0.0]), method="BFGS").x
    if slope <= 0:
        raise UserError(
            "anomaly.options.calibration: defective validation images are no farther from the good ones than good ones "
            "are, so no probability follows from the distance; take quantile"
        )
    steepness = slope / spread
    head.image_scale.fill_(float(np.exp(middle - offset / steepness)))
    head.steepness.fill_(float(steepness))
