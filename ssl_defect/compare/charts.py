"""The drawings of a comparison: lines over the number of labels, and quality against a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ssl_defect.report.svg import COLOURS, SHAPES, Frame, axes, line, marker, picture, short, tag, tick_text, ticks

BANDS = 4  # of lines that cover each other; more are no longer told apart


@dataclass(frozen=True)
class Spot:
    """A value with its interval at a place across; ends are None where there is no interval."""

    x: float
    value: float
    low: float | None
    high: float | None


def spot(x: float | None, entry: Mapping[str, Any] | None) -> Spot | None:
    """A metric's `entry` at `x`; None where either is unknown."""
    if x is None or not entry or entry.get("value") is None:
        return None
    return Spot(x, entry["value"], entry.get("low"), entry.get("high"))


def efficiency(lines: Sequence[Sequence[Spot]], budgets: Sequence[str], names: tuple[str, str], alt: str) -> Markup:
    """Lines over `budgets`, evenly apart; `Spot.x` is the place in them, `names` those of the axes.

    Up to `BANDS` of them have their bands: more would only cover each other.
    """
    if len(lines) > BANDS:
        lines = [[Spot(spot.x, spot.value, None, None) for spot in one] for one in lines]
    spots = [spot for one in lines for spot in one]
    frame = Frame((-0.2, len(budgets) - 0.8), _range(spots), width=460, height=300, left=58)
    parts = [axes(_without_ticks_across(frame), *names)]
    bottom = frame.height - frame.bottom
    for place, budget in enumerate(budgets):
        parts.append(tag("text", budget, x=frame.across(place), y=bottom + 16, text_anchor="middle"))
    parts += [_band(frame, one, index) for index, one in enumerate(lines)]
    for index, one in enumerate(lines):
        parts.append(line(frame, [s.x for s in one], [s.value for s in one], f"s{index % COLOURS}"))
        parts.append(_dots(frame, one, index))
    return picture(frame, parts, alt)


def _without_ticks_across(frame: Frame) -> Frame:
    """The same box for axes whose labels across are names: a range that holds no whole number has no tick there."""
    return Frame((0.4, 0.6), frame.y, frame.width, frame.height, left=frame.left, whole=True)


def _band(frame: Frame, spots: Sequence[Spot], index: int) -> Markup:
    ends = [(spot.x, spot.low, spot.high) for spot in spots if spot.low is not None and spot.high is not None]
    if len(ends) < 2:
        return Markup("")
    around = [(x, high) for x, _, high in ends] + [(x, low) for x, low, _ in reversed(ends)]
    data = "L".join(f"{short(frame.across(x))} {short(frame.down(y))}" for x, y in around)
    return tag("path", class_=f"between s{index % COLOURS}", d=f"M{data}z")


def _dots(frame: Frame, spots: Sequence[Spot], index: int) -> Markup:
    shape = SHAPES[index % len(SHAPES)]
    data = "".join(marker(shape, frame.across(spot.x), frame.down(spot.value), 4.5) for spot in spots)
    return tag("path", class_=f"dots s{index % COLOURS} {shape}", d=data)


def cost(spots: Sequence[Spot | None], labels: tuple[str, str], alt: str) -> Markup:
    """A mark with its whisker per arm, cost across and quality up; None stands for an arm without the figure."""
    known = [spot for spot in spots if spot]
    top = max(spot.x for spot in known) * 1.06 or 1.0
    frame = Frame((0.0, top), _range(known), width=460, height=300, left=58)
    parts = [axes(frame, *labels)]
    for index, spot in enumerate(spots):
        if spot and spot.low is not None and spot.high is not None:
            x, low, high = (short(v) for v in (frame.across(spot.x), frame.down(spot.low), frame.down(spot.high)))
            parts.append(tag("path", class_=f"reach s{index % COLOURS}", d=f"M{x} {low}V{high}"))
    parts += [_dots(frame, [spot], index) for index, spot in enumerate(spots) if spot]
    return picture(frame, parts, alt)


Differences = Sequence[tuple[str, Spot, bool]]  # label, difference, whether its interval leaves zero out


def reach(drawings: Sequence[Differences]) -> tuple[float, float]:
    """One scale for drawings that are to be read side by side."""
    return _range([*(spot for rows in drawings for _, spot, _ in rows), Spot(0, 0.0, None, None)])


def differences(rows: Differences, name: str, alt: str, ends: tuple[float, float]) -> Markup:
    """A dot with whiskers per row around the line of no difference, on a scale from one of `ends` to the other."""
    low, high = ends
    frame = Frame((low, high), (0, len(rows)), width=660, height=60 + 26 * len(rows), left=270, top=8)
    bottom = frame.height - frame.bottom
    parts = []
    for value in ticks(low, high):
        x = short(frame.across(value))
        parts.append(tag("path", class_="grid", d=f"M{x} 8V{short(bottom)}"))
        parts.append(tag("text", tick_text(value), x=x, y=bottom + 16, text_anchor="middle"))
    parts.append(tag("path", class_="zero", d=f"M{short(frame.across(0))} 8V{short(bottom)}"))
    for number, (label, spot, outside) in enumerate(rows):
        y, kind = frame.down(len(rows) - number - 0.5), "" if outside else " within"
        parts.append(tag("text", _cut(label), class_="name", x=258, y=y + 4, text_anchor="end"))
        if spot.low is not None and spot.high is not None:
            path = f"M{short(frame.across(spot.low))} {short(y)}H{short(frame.across(spot.high))}"
            parts.append(tag("path", class_=f"whisker{kind}", d=path))
        parts.append(tag("circle", class_=f"dot{kind}", cx=frame.across(spot.value), cy=y, r=5))
    centre = (frame.left + frame.width - frame.right) / 2
    parts.append(tag("text", name, class_="name", x=centre, y=frame.height - 6, text_anchor="middle"))
    return picture(frame, parts, alt, "wide")


def _cut(text: str, limit: int = 38) -> str:
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[1 - limit // 2 :]}"


def _range(spots: Sequence[Spot]) -> tuple[float, float]:
    values = [end for spot in spots for end in (spot.value, spot.low, spot.high) if end is not None]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.05
    return low - pad, high + pad
