"""The scores as bars: with the threshold across, and over the slider of the operating point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from ssl_defect.report.numbers import hook
from ssl_defect.report.svg import Frame, picture, short, tag, ticks

Array = npt.NDArray[np.float64]
UNIT = (0.0, 1.0)


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


def score_bars(good: Sequence[float], bad: Sequence[float], threshold: float | None, alt: str) -> Markup:
    """Scores in [0, 1] in 40 bins: good parts upwards, defective ones downwards, the threshold across.

    Heights are square roots of counts, so that a lone escape among hundreds stays visible.
    """
    counts = [np.histogram(np.clip(scores, 0, 1), bins=40, range=UNIT)[0] for scores in (good, bad)]
    top = max(1.0, float(np.sqrt(np.max(counts))))
    frame = Frame(UNIT, (-1.0, 1.0), width=560, height=230, left=14, right=14, bottom=40)
    zero = frame.down(0.0)
    parts = []
    for style, sign, heights in (("good", 1, counts[0]), ("bad", -1, counts[1])):
        for number in np.flatnonzero(heights):
            end = frame.down(sign * float(np.sqrt(heights[number])) / top)
            x = frame.across(number / 40) + 1
            width = frame.across(1 / 40) - frame.across(0) - 2
            parts.append(
                tag("rect", class_=f"bar {style}", x=x, y=min(zero, end), width=width, height=abs(end - zero), rx=1.5)
            )
    parts.append(tag("path", class_="axis", d=f"M{short(frame.left)} {short(zero)}H{short(frame.width - frame.right)}"))
    parts += [_score_labels(frame), _threshold(frame, threshold)]
    return picture(frame, parts, alt, "wide")


def _score_labels(frame: Frame) -> Markup:
    bottom = frame.height - frame.bottom
    parts = [
        tag("text", f"{value:g}", x=frame.across(value), y=bottom + 16, text_anchor="middle")
        for value in (0, 0.2, 0.4, 0.6, 0.8, 1)
    ]
    parts.append(
        tag("text", "score: higher is more defective", class_="name", x=280, y=bottom + 34, text_anchor="middle")
    )
    return Markup("").join(parts)


def _threshold(frame: Frame, threshold: float | None) -> Markup:
    if threshold is None:
        return Markup("")
    x = frame.across(min(max(threshold, 0.0), 1.0))
    rule = tag("path", class_="threshold", d=f"M{short(x)} {short(frame.top)}V{short(frame.height - frame.bottom)}")
    side, move = ("start", 6) if threshold < 0.6 else ("end", -6)
    told = Markup("threshold ") + tag("tspan", f"{threshold:.3f}", **hook("threshold.value", threshold))
    return rule + tag("text", told, class_="name", x=x + move, y=24, text_anchor=side)
