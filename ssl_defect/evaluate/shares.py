"""The interval of a share that is counted on images of which some are near-copies of each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import t

from ssl_defect.evaluate.metrics import Array


def share_of(hits: Array, groups: Array, level: float) -> dict[str, Any]:
    """`{"value", "low", "high"}` of a share; None and a `why` where there are no images, or a single group.

    Wilson's interval (Probable inference, JASA 1927) for as many images as these are worth: their number over the
    design effect, the variance of the share between groups over that of independent images (Kish, Survey Sampling,
    1965, section 8.2). Where all agree that variance is zero, and a group is taken for one image. With Student's t of
    one less than the groups. A bootstrap draws nothing but 1 around a share of 1, however few the images; of intervals
    with an effective number Wilson's is recommended (Franco et al., Comparative study of confidence intervals for
    proportions in complex sample surveys, JSSAM 2019).

    Args:
        hits: (n,) bool or 0/1.
        groups: (n,) near-copy group of each image.
        level: such as 0.95.
    """
    if not len(hits):
        return {"value": None, "low": None, "high": None, "why": "no images"}
    value = float(np.mean(hits))
    names, inverse = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return {"value": value, "low": None, "high": None, "why": "a single group: nothing to draw from"}
    reach = float(t.ppf((1 + level) / 2, len(names) - 1))
    low, high = wilson(value, worth(np.asarray(hits, np.float64), inverse, len(names)), reach)
    return {"value": value, "low": low, "high": high}


def worth(hits: Array, inverse: Array, groups: int) -> float:
    """How many independent images would give the share of `hits` (n,) its variance: from `groups` to n."""
    value, images = hits.mean(), len(hits)
    alone = value * (1 - value) / images
    if not alone:
        return float(groups)
    residuals = np.bincount(inverse, hits - value, groups)
    together = groups / (groups - 1) * float(residuals @ residuals) / images**2
    return float(np.clip(images * alone / together if together else images, min(groups, images), images))


def wilson(value: float, count: float, reach: float) -> tuple[float, float]:
    """Interval of a share seen on `count` independent images, `reach` standard deviations to each side."""
    square = reach * reach
    middle = (value * count + square / 2) / (count + square)
    half = reach / (count + square) * math.sqrt(value * (1 - value) * count + square / 4)
    return max(0.0, middle - half), min(1.0, middle + half)
