"""The scores as bars that lie exactly over the slider of the operating point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from ssl_defect.report.svg import tag, ticks

Array = npt.NDArray[np.float64]


def bounds_of(values: Sequence[float]) -> tuple[float, float]:
    """Round numbers around values in [0, 1], so that scores that lie close together fill a figure."""
    low, high = min(values), max(values)
    step = ticks(0.0, max(high - low, 1e-6), 20)[1]
    low, high = max(0.0, np.floor(low / step) * step), min(1.0, np.ceil(high / step) * step)
    return (round(float(low), 12), round(float(high), 12)) if high > low else (0.0, 1.0)


def score_histogram(good: Array, bad: Array, bounds: tuple[float, float], alt: str) -> Markup:
    """60 bins between `bounds`: good images upwards, defective ones downwards, stretched over a slider's width."""
    counts = [np.histogram(np.clip(scores, *bounds), bins=60, range=bounds)[0] for scores in (good, bad)]
    top = max(1.0, float(np.sqrt(np.max(counts))))
    parts = []
    for style, sign, heights in (("good", -1, counts[0]), ("bad", 1, counts[1])):
        for number in np.flatnonzero(heights):
            height = 98 * float(np.sqrt(heights[number])) / top
            y = 100 - height if sign < 0 else 100
            parts.append(tag("rect", class_=f"bar {style}", x=number * 15 + 1.5, y=y, width=12, height=height))
    parts.append(tag("path", class_="axis", d="M0 100H900", vector_effect="non-scaling-stroke"))
    box = {"viewBox": "0 0 900 200", "preserveAspectRatio": "none"}
    return tag("svg", Markup("").join(parts), class_="bars-only", role="img", aria_label=alt, **box)
