"""Critical-difference diagrams (Demsar, JMLR 7 (2006) 1, figure 1) as plain SVG."""

from __future__ import annotations

import math

from markupsafe import Markup

from ssl_defect.report.svg import short, tag
from ssl_defect.table.statistics import Ranked, alike

WIDTH, SIDE, TOP, STEP = 640.0, 190.0, 62.0, 20.0
STYLE = "font-family:system-ui,sans-serif;font-size:12px;stroke:currentColor;fill:none;color:#222;background:#fff"


def diagram(ranked: Ranked, caption: str) -> str:
    """Mean ranks on an axis, the best on the right; a bar joins those that lie within the critical difference."""
    k = len(ranked.names)
    bars = alike(ranked)
    floor = TOP + 14 + 8 * len(bars)
    height = floor + STEP * math.ceil(k / 2) + 14
    parts = [*_axis(ranked), *_bars(ranked, bars), *_names(ranked, floor)]
    box = f"0 0 {short(WIDTH)} {short(height)}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" style="{STYLE}">'
    told = "; ".join(f"{name} {rank:.2f}" for rank, name in sorted(zip(ranked.ranks, ranked.names, strict=True)))
    told += f"; critical difference {ranked.distance:.2f}"
    return "\n".join([head, tag("title", caption), tag("desc", told), *parts, "</svg>"]) + "\n"


def _across(ranked: Ranked, rank: float) -> float:
    """Rank 1 on the right."""
    return WIDTH - SIDE - (rank - 1) / max(1, len(ranked.names) - 1) * (WIDTH - 2 * SIDE)


def _line(x1: float, y1: float, x2: float, y2: float, width: float = 1) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke_width=width)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, fill="currentColor", stroke="none")


def _axis(ranked: Ranked) -> list[Markup]:
    parts = [_line(_across(ranked, len(ranked.names)), TOP, _across(ranked, 1), TOP)]
    for rank in range(1, len(ranked.names) + 1):
        x = _across(ranked, rank)
        parts += [_line(x, TOP - 5, x, TOP), _text(x, TOP - 9, str(rank), "middle")]
    right = _across(ranked, 1)
    left = right - (right - _across(ranked, 2)) * ranked.distance
    wide = f"critical difference {ranked.distance:.2f} ({100 * (1 - ranked.alpha):g}%, {ranked.blocks} sets)"
    parts += [_text(right, 14, wide, "end"), _line(max(left, 4), 22, right, 22, 2)]
    return [*parts, *(_line(x, 18, x, 26) for x in (left, right) if x >= 4)]


def _bars(ranked: Ranked, bars: list[tuple[int, int]]) -> list[Markup]:
    order = sorted(ranked.ranks)
    return [
        _line(_across(ranked, order[last]) - 3, TOP + 8 + 8 * i, _across(ranked, order[first]) + 3, TOP + 8 + 8 * i, 4)
        for i, (first, last) in enumerate(bars)
    ]


def _names(ranked: Ranked, floor: float) -> list[Markup]:
    """The better half on the right, the worse on the left, the outermost nearest to the axis."""
    order = sorted(zip(ranked.ranks, ranked.names, strict=True))
    half = len(order) // 2
    parts = []
    for side, some in (("right", order[:half]), ("left", order[half:][::-1])):
        for i, (rank, name) in enumerate(some):
            x, y = _across(ranked, rank), floor + STEP * i + 8
            end = WIDTH - SIDE + 14 if side == "right" else SIDE - 14
            anchor = "start" if side == "right" else "end"
            parts += [_line(x, TOP, x, y), _line(x, y, end, y)]
            parts.append(_text(end + (4 if side == "right" else -4), y + 4, f"{name} ({rank:.2f})", anchor))
    return parts
