"""Differences from the baseline with their intervals, drawn: a forest plot (Lewis and Clarke, BMJ 322 (2001) 1479).

A row is a row of the table, a panel one of its columns; all panels share one scale, so that lengths can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup

from ssl_defect.report.svg import Frame, short, tag, tick_text, ticks
from ssl_defect.table.layout import axes_of, factor, keys_of, number, title
from ssl_defect.table.measure import better
from ssl_defect.table.results import Result, Results
from ssl_defect.table.settings import TableSettings

SIDE, WIDTH, LEAST, GAP, TOP, STEP, BOTTOM = 170.0, 420.0, 150.0, 30.0, 44.0, 18.0, 46.0
LETTER = 6.2  # width of a letter, on average and rather too much
STYLE = "font-family:system-ui,sans-serif;font-size:11px;color:#222;background:#fff"
GREY, COLOURS = "#777", {"better": "#0a7d46", "worse": "#b3261e", "": "#444"}
HALO: dict[str, Any] = {
    "paint_order": "stroke",
    "stroke": "#fff",
    "stroke_width": 8,
}  # keeps a text apart from the line behind it
WIDEST = 3.0  # the scale ends at so many times what is typical: one far row does not press all others together
Key = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One interval: its row and column of the table, its result, and its ends and middle as numbers and in words."""

    key: Key
    column: Key
    result: Result
    span: tuple[float, float, float]  # low, value, high in the unit of the table
    texts: tuple[str, str, str]


def _row(one: Result, table: TableSettings) -> Row:
    change, by = one.change or {}, factor(table, one.metric)
    key, column = (tuple(one.cell.labels[axis] for axis in axes) for axes in axes_of(table))
    low, value, high = (change[end] for end in ("low", "value", "high"))
    least, middle, most = (number(end, table, sign=True, metric=one.metric) for end in (low, value, high))
    return Row(key, column, one, (by * low, by * value, by * high), (least, middle, most))


def forest(results: Results, metric: str) -> str:
    """The figure as SVG; empty where no difference of the metric has an interval."""
    side, top = axes_of(results.table)
    there = [one for one in results.of(metric) if one.change and one.change["low"] is not None]
    rows = [_row(one, results.table) for one in there]
    if not rows:
        return ""
    names = [key for key in (keys_of(results, side) if side else [()]) if any(row.key == key for row in rows)]
    columns = [key for key in keys_of(results, top) or [()] if any(row.column == key for row in rows)]
    limit, panel = _limit(rows), max(LEAST, WIDTH / len(columns))
    height = TOP + STEP * len(names) + BOTTOM
    told, heading = _names(names), ", ".join(map(title, top))  # what the panels' heads are values of
    edge = max(SIDE, LETTER * max(map(len, [*told, heading])) + 16)
    parts = [_label(edge - 8, TOP + STEP * (i + 0.5) + 4, name, "end") for i, name in enumerate(told)]
    parts.append(_label(edge - 8, TOP - 10, heading, "end"))
    for place, column in enumerate(columns):
        left = edge + place * (panel + GAP)
        frame = Frame((-limit, limit), (0, 1), left + panel, height, left, 0, TOP, BOTTOM, ticks=3)
        parts += _panel(frame, names, [row for row in rows if row.column == column], ", ".join(column), results)
    base = ", ".join(f"{title(axis)} {value}" for axis, value in results.table.baseline.items())
    unit = " (percent)" if factor(results.table, metric) > 1 else ""
    caption = f"{metric}: difference from {base}, {100 * results.table.level:g}% interval{unit}"
    width = edge + len(columns) * (panel + GAP)
    parts += [_label(8, 16, caption, "start"), *_legend(results, rows, height)]
    box = f"0 0 {short(width)} {short(height)}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" style="{STYLE}">'
    return "\n".join([head, tag("title", f"{results.table.name}: {caption}"), *parts, "</svg>"]) + "\n"


def _names(keys: list[Key]) -> list[str]:
    """What stands beside the rows: their values of all axes in which they differ."""
    apart = [i for i, values in enumerate(zip(*keys, strict=True)) if len(set(values)) > 1]
    return [", ".join(key[i] for i in apart) or ", ".join(key) for key in keys]


def _limit(rows: list[Row]) -> float:
    reach = [max(abs(row.span[0]), abs(row.span[2])) for row in rows]
    return float(max(min(max(reach), WIDEST * median(reach)) * 1.05, 1e-9))


def _panel(frame: Frame, names: list[Key], rows: list[Row], head: str, results: Results) -> list[Markup]:
    floor, zero = frame.height - BOTTOM, frame.across(0)
    parts = [
        _label((frame.left + frame.width) / 2, TOP - 10, head, "middle"),
        _line(zero, TOP, zero, floor, GREY, 1),
        _line(frame.left, floor, frame.width, floor, GREY, 1),
    ]
    for value in _ticks(frame):
        parts += [_line(frame.across(value), floor, frame.across(value), floor + 4, GREY, 1)]
        parts += [_label(frame.across(value), floor + 16, tick_text(value), "middle")]
    for row in rows:
        parts += _interval(frame, TOP + STEP * (names.index(row.key) + 0.5), row)
    return parts


def _ticks(frame: Frame) -> list[float]:
    """About `frame.ticks` of them, and a scale on either side of zero, which too wide a step would leave alone."""
    found = (ticks(*frame.x, count) for count in range(frame.ticks, 6))  # five always have three
    return next(values for values in found if len(values) > 2)


def _interval(frame: Frame, y: float, row: Row) -> list[Markup]:
    """A line with a dot, its value where that lies outside, an arrow for the rest. Numbers show on hovering."""
    low, value, high = row.span
    colour = COLOURS[row.result.verdict]
    ends = [min(max(end, frame.x[0]), frame.x[1]) for end in (low, high)]
    parts = [_line(frame.across(ends[0]), y, frame.across(ends[1]), y, colour, 2 if row.result.verdict else 1.2)]
    for beyond, way in ((low < frame.x[0], -1), (high > frame.x[1], 1)):
        if beyond:
            x = frame.across(frame.x[way > 0])
            points = f"{short(x)},{short(y)} {short(x - 6 * way)},{short(y - 3)} {short(x - 6 * way)},{short(y + 3)}"
            parts.append(tag("polygon", points=points, fill=colour))
    if frame.x[0] <= value <= frame.x[1]:
        parts.append(tag("circle", cx=frame.across(value), cy=y, r=3.5, fill=colour))
    else:  # its dot lies outside, so that its value is written
        x, anchor = (frame.across(frame.x[1]) - 10, "end") if value > 0 else (frame.across(frame.x[0]) + 10, "start")
        parts.append(tag("text", row.texts[1], x=x, y=y + 4, text_anchor=anchor, fill=colour, **HALO))
    least, middle, most = row.texts
    told = f"{', '.join((*row.key, *row.column))}: {middle} ({least} to {most})"
    return [tag("g", Markup("").join([tag("title", told), *parts]))]


def _legend(results: Results, rows: list[Row], height: float) -> list[Markup]:
    seen = {row.result.verdict for row in rows}
    way = "right" if better(rows[0].result.metric) > 0 else "left"
    texts = [("", f"{way} of the line is better")]
    texts += [(kind, f"{kind} (corrected by Holm)") for kind in ("better", "worse") if kind in seen]
    parts, x = [], 8.0
    for kind, text in texts:
        if kind:
            parts.append(tag("circle", cx=x + 4, cy=height - 10, r=3.5, fill=COLOURS[kind]))
            x += 12
        parts.append(_label(x, height - 6, text, "start"))
        x += LETTER * len(text) + 16
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, stroke_width=width)


def _label(x: float, y: float, text: str, anchor: str) -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, fill="currentColor")
