"""The figures of the page: data in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from ssl_defect.report.numbers import hook
from ssl_defect.report.svg import COLOURS, SHAPES, Frame, axes, line, marker, picture, short, tag

Pairs = Sequence[tuple[float, float]]
UNIT = (0.0, 1.0)
SMALL_CURVE: dict[str, Any] = {"width": 240, "height": 190, "left": 32, "bottom": 24, "ticks": 3}
SMALL: dict[str, Any] = {"width": 240, "height": 130, "left": 54, "right": 8, "top": 8, "bottom": 24, "ticks": 3}


@dataclass(frozen=True)
class Series:
    """One line of a chart: points, the style class that draws it, its name for the legend, and where a curve ends."""

    xs: Sequence[float]
    ys: Sequence[float]
    style: str = "s0"
    name: str = ""
    band: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None  # places across, low and high ends
    end: float = 1.0


class Dot(NamedTuple):
    """A row of a chart: its value with its interval, all in [0, 1], and the value's place in metrics.json."""

    label: str
    value: float
    low: float | None
    high: float | None
    path: str = ""


def curve(
    series: Series, labels: tuple[str, str], alt: str, marks: Pairs = (), chance: Pairs = (), moving: str = ""
) -> Markup:
    """A curve in [0, 1] (ROC, PR, PRO) with the operating point and the line of chance.

    Args:
        moving: name of a second mark, which the page's script puts where it belongs; none where empty.
    """
    frame = Frame((0.0, series.end), UNIT)
    parts = [axes(frame, *labels)]
    if chance:
        parts.append(line(frame, [x for x, _ in chance], [y for _, y in chance], "chance"))
    area = _area(frame, series)
    parts += [area, line(frame, series.xs, series.ys, series.style)]
    parts += [_mark(frame, x, y) for x, y in marks]
    if moving:
        parts.append(_moving(frame, moving))
    return picture(frame, parts, alt)


def small_curve(series: Series, beside: Series, alt: str, marks: Pairs = ()) -> Markup:
    """A small curve in [0, 1], with another one dashed behind it; no names of axes."""
    frame = Frame((0.0, series.end), UNIT, **SMALL_CURVE)
    parts = [axes(frame, "", ""), line(frame, beside.xs, beside.ys, "chance"), _area(frame, series)]
    parts += [line(frame, series.xs, series.ys, series.style), *(_mark(frame, x, y) for x, y in marks)]
    return picture(frame, parts, alt)


def _moving(frame: Frame, name: str) -> Markup:
    """A mark at the origin that carries the corners of its frame, so that a script can place it by its numbers."""
    left, right, top, bottom = frame.across(0), frame.across(1), frame.down(1), frame.down(0)
    ends = {"data_left": short(left), "data_right": short(right), "data_top": short(top), "data_bottom": short(bottom)}
    return tag("circle", "", class_="mark now", cx=left, cy=bottom, r=7, data_mark=name, **ends)


def _area(frame: Frame, series: Series) -> Markup:
    if not len(series.xs):
        return Markup("")
    if series.band:
        across, low, high = series.band
        around = [*zip(across, high, strict=True), *zip(across[::-1], low[::-1], strict=True)]
        corners = "L".join(f"{short(frame.across(x))} {short(frame.down(y))}" for x, y in around)
        return tag("path", class_="spread", d=f"M{corners}z")
    points = "L".join(
        f"{short(frame.across(x))} {short(frame.down(y))}" for x, y in zip(series.xs, series.ys, strict=True)
    )
    base = short(frame.down(0.0))
    ends = f"V{base}H{short(frame.across(series.xs[0]))}z"
    return tag("path", class_=f"area {series.style}", d=f"M{points}{ends}")


def _mark(frame: Frame, x: float, y: float) -> Markup:
    return tag("circle", class_="mark", cx=frame.across(x), cy=frame.down(y), r=5.5)


def history(series: Sequence[Series], labels: tuple[str, str], alt: str, small: bool = False) -> Markup:
    """Lines over time with ranges taken from the data; a `small` one names no axes."""
    xs = [x for one in series for x in one.xs]
    ys = [y for one in series for y in one.ys]
    form: dict[str, Any] = SMALL if small else {"left": 64}
    frame = Frame((min(xs), max(*xs, min(xs) + 1)), _range(ys), whole=True, **form)
    parts = [axes(frame, *(("", "") if small else labels))]
    for one in series:
        parts.append(line(frame, one.xs, one.ys, one.style))
        if len(one.xs) == 1:
            parts.append(_dots(frame, one))
    return picture(frame, parts, alt)


def _dots(frame: Frame, series: Series) -> Markup:
    places = zip(series.xs, series.ys, strict=True)
    data = "".join(marker("circle", frame.across(x), frame.down(y), 3.5) for x, y in places)
    return tag("path", class_=f"dots {series.style}", d=data)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - pad, high + pad


def scatter(points: Sequence[Sequence[tuple[float, float]]], rings: Pairs, alt: str, small: bool = False) -> Markup:
    """One cloud of points per class, told apart by colour and shape, and a ring around each of `rings`."""
    xs = [x for cloud in points for x, _ in cloud]
    ys = [y for cloud in points for _, y in cloud]
    width, height = (240, 210) if small else (380, 330)
    frame = Frame(_range(xs), _range(ys), left=8, right=8, top=8, bottom=8, width=width, height=height)
    radius = 2.4 if small or len(xs) > 600 else 3.2
    parts = [tag("rect", class_="panel", x=1, y=1, width=frame.width - 2, height=frame.height - 2, rx=6)]
    for index, cloud in enumerate(points):
        shape = SHAPES[index % len(SHAPES)]
        data = "".join(marker(shape, frame.across(x), frame.down(y), radius) for x, y in cloud)
        parts.append(tag("path", class_=f"dots s{index % COLOURS} {shape}", d=data))
    data = "".join(marker("circle", frame.across(x), frame.down(y), radius + 2.2) for x, y in rings)
    parts.append(tag("path", class_="ring", d=data))
    return picture(frame, parts, alt, "scatter")


def agreement(pairs: Pairs, labels: tuple[str, str], alt: str) -> Markup:
    """Predicted against true values: a dot per image, and the line on which both are equal."""
    top = max([1e-6, *(max(pair) for pair in pairs)])
    frame = Frame((0.0, top), (0.0, top))
    data = "".join(marker("circle", frame.across(x), frame.down(y), 3.0) for x, y in pairs)
    equal = line(frame, [0.0, top], [0.0, top], "chance")
    return picture(frame, [axes(frame, *labels), equal, tag("path", class_="dots s0", d=data)], alt)


def interval_dots(rows: Sequence[Dot], name: str, alt: str) -> Markup:
    """A dot with its whiskers per row."""
    floor = min(0.5, *(row.value if row.low is None else row.low for row in rows))
    floor = np.floor(floor * 10) / 10
    frame = Frame((float(floor), 1.0), (0, len(rows)), width=560, height=58 + 26 * len(rows), left=150, top=8)
    parts = []
    for value in np.arange(round(floor * 10), 11) / 10:
        x = short(frame.across(float(value)))
        parts.append(tag("path", class_="grid", d=f"M{x} 8V{short(frame.height - frame.bottom)}"))
        parts.append(tag("text", f"{value:.1f}", x=x, y=frame.height - frame.bottom + 16, text_anchor="middle"))
    for number, (label, value, low, high, path) in enumerate(rows):
        y = frame.down(len(rows) - number - 0.5)
        parts.append(tag("text", _cut(label), class_="name", x=138, y=y + 4, text_anchor="end"))
        if low is not None and high is not None:
            parts.append(
                tag("path", class_="whisker", d=f"M{short(frame.across(low))} {short(y)}H{short(frame.across(high))}")
            )
        parts.append(tag("circle", class_="dot", cx=frame.across(value), cy=y, r=5, **hook(path, value)))
    parts.append(tag("text", name, class_="name", x=349, y=frame.height - 6, text_anchor="middle"))
    return picture(frame, parts, alt, "wide")


def _cut(text: str, limit: int = 20) -> str:
    """What fits beside a row; markup is taken as it is."""
    return text if isinstance(text, Markup) or len(text) <= limit else f"{text[: limit - 1]}…"


def waffle(share: float, style: str, alt: str) -> Markup:
    """A hundred squares, `share` of them (rounded, but never to none or all by rounding) in `style`."""
    filled = round(100 * share)
    if 0 < share < 1:
        filled = min(max(filled, 1), 99)
    frame = Frame(UNIT, UNIT, width=118, height=118)
    parts = [
        tag(
            "rect",
            class_=f"bar {style}" if number < filled else "bar none",
            x=1 + 11.7 * (number % 10),
            y=1 + 11.7 * (number // 10),
            width=9.6,
            height=9.6,
            rx=2,
        )
        for number in range(100)
    ]
    return picture(frame, parts, alt, "waffle")


def gauge(value: float, low: float | None, high: float | None, floor: float = 0.0) -> Markup:
    """A thin bar from `floor` to 1 with the interval as a band and the value as a tick; decoration beside its text."""
    frame = Frame((floor, 1.0), UNIT, width=200, height=14, left=2, right=2)
    value, low, high = (floor if end is None else max(end, floor) for end in (value, low, high))
    start, end = frame.across(low), frame.across(high)
    parts = [
        tag("rect", class_="bar none", x=0, y=4, width=200, height=6, rx=3),
        tag("rect", class_="band", x=start, y=2, width=max(end - start, 1), height=10, rx=3),
        tag("rect", class_="tick", x=frame.across(value) - 1.5, y=0, width=3, height=14, rx=1.5),
    ]
    return tag(
        "svg",
        Markup("").join(parts),
        class_="gauge",
        viewBox="0 0 200 14",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
