"""Small parts that figures are made of: plain SVG whose colours and type are the page's own.

Colours come from the style sheet (classes `s0`..`s7`), so a figure follows light, dark and print by itself.
All lengths are in units of the figure's own view box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

COLOURS = 8
SHAPES = ("circle", "triangle", "square", "diamond", "cross", "wedge")


@dataclass(frozen=True)
class Frame:
    """A plot's box: data ranges `x` and `y` laid on `width` x `height` with room for the labels."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = 380
    height: float = 290
    left: float = 52
    right: float = 12
    top: float = 12
    bottom: float = 44
    whole: bool = False  # ticks across at whole numbers only
    ticks: int = 5  # about as many on each axis

    def across(self, value: float) -> float:
        """Horizontal place of a data value."""
        low, high = self.x
        return self.left + (value - low) / (high - low or 1) * (self.width - self.left - self.right)

    def down(self, value: float) -> float:
        """Vertical place of a data value."""
        low, high = self.y
        return self.height - self.bottom - (value - low) / (high - low or 1) * (self.height - self.top - self.bottom)


def short(value: float) -> str:
    """A coordinate with one decimal at most."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def tag(name: str, content: str | Markup = "", **attributes: str | float) -> Markup:
    """One element; `_` in attribute names is `-`, and a trailing one is dropped; all values are escaped."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(short(value) if isinstance(value, (int, float)) else value)}"'
        for key, value in attributes.items()
    ]
    return Markup(f"<{name}{''.join(parts)}>{escape(content)}</{name}>")


def picture(frame: Frame, parts: Iterable[Markup], alt: str, kind: str = "") -> Markup:
    """The whole figure with its text alternative."""
    box = f"0 0 {short(frame.width)} {short(frame.height)}"
    return tag("svg", Markup("").join(parts), class_=f"chart {kind}".strip(), viewBox=box, role="img", aria_label=alt)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`, at steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A tick's label without needless zeros."""
    return f"{value:g}" if abs(value) < 1e4 else f"{value / 1000:g}k"


def axes(frame: Frame, xlabel: str, ylabel: str) -> Markup:
    """Grid lines, tick labels and the names of the axes; an empty name is left out."""
    left, bottom = frame.left, frame.height - frame.bottom
    parts = []
    for value in ticks(*frame.x, frame.ticks):
        if frame.whole and value != round(value):
            continue
        x = frame.across(value)
        parts.append(tag("path", class_="grid", d=f"M{short(x)} {short(frame.top)}V{short(bottom)}"))
        parts.append(tag("text", tick_text(value), x=x, y=bottom + 16, text_anchor="middle"))
    for value in ticks(*frame.y, frame.ticks):
        y = frame.down(value)
        parts.append(tag("path", class_="grid", d=f"M{short(left)} {short(y)}H{short(frame.width - frame.right)}"))
        parts.append(tag("text", tick_text(value), x=left - 6, y=y + 4, text_anchor="end"))
    middle, centre = (frame.top + bottom) / 2, (left + frame.width - frame.right) / 2
    if xlabel:
        parts.append(tag("text", xlabel, class_="name", x=centre, y=bottom + 36, text_anchor="middle"))
    if ylabel:
        turn = f"translate(13 {short(middle)}) rotate(-90)"
        parts.append(tag("text", ylabel, class_="name", transform=turn, text_anchor="middle"))
    return Markup("").join(parts)


def line(frame: Frame, xs: Sequence[float], ys: Sequence[float], kind: str) -> Markup:
    """A polyline through the points."""
    points = [f"{short(frame.across(x))} {short(frame.down(y))}" for x, y in zip(xs, ys, strict=True)]
    return tag("path", class_=f"line {kind}", d="M" + "L".join(points)) if points else Markup("")


def marker(shape: str, x: float, y: float, r: float) -> str:
    """Path data of one marker of radius `r` at a place of the view box."""
    at = f"M{short(x)} {short(y)}"
    a, b, c, e = short(r), short(2 * r), short(1.8 * r), short(1.3 * r)
    return {
        "circle": f"{at}m-{a} 0a{a} {a} 0 1 0 {b} 0a{a} {a} 0 1 0-{b} 0z",
        "triangle": f"{at}m0-{a}l{a} {c}h-{b}z",
        "square": f"{at}m-{a}-{a}h{b}v{b}h-{b}z",
        "diamond": f"{at}m0-{e}l{e} {e}l-{e} {e}l-{e}-{e}z",
        "cross": f"{at}m-{a}-{a}l{b} {b}m0-{b}l-{b} {b}",
        "wedge": f"{at}m0 {a}l{a}-{c}h-{b}z",
    }[shape]


def swatch(index: int) -> Markup:
    """The small sign of class `index` in a legend; colour and shape together stay distinct up to 24 classes."""
    shape = SHAPES[index % len(SHAPES)]
    path = tag("path", class_=f"dots s{index % COLOURS} {shape}", d=marker(shape, 7, 7, 4))
    return tag("svg", path, class_="swatch", viewBox="0 0 14 14", aria_hidden="true")
