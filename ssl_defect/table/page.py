"""The table as a reader's page: what it answers, drawn and in grids, above the comparison of its runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup, escape

from ssl_defect.compare.lead import Lead
from ssl_defect.report.templates import environment
from ssl_defect.table.answer import STRONG
from ssl_defect.table.layout import MARKS, grids
from ssl_defect.table.results import Results

LARGER = 1.15  # a drawing's text of 11 units is read beside text of 16 pixels


def lead(results: Results, answers: Sequence[str], notes: Sequence[str], drawings: Sequence[str]) -> Lead:
    """What stands above the runs.

    Args:
        answers: in sentences, the first thing on the page; `notes`: how it was measured, below the grids.
        drawings: as SVG.
    """
    made, metrics = grids(results), results.table.metrics
    first = [grid for grid in made if not grid.caption or grid.caption.split(":")[0] == metrics[0]]
    html = _environment().get_template("table.html.j2").render(
        answers=answers,
        notes=notes,
        drawings=[(Markup(one), round(LARGER * _width(one))) for one in drawings],
        grids=[(grid, grid in first) for grid in made],
    )  # fmt: skip
    table = results.table
    sections = [("answer", "Answer")] if answers else []
    sections += [("differences", "Differences")] if drawings else []
    sections += [("table", "Table")]
    return Lead(table.name, marked(table.description), sections, Markup(html), bool(answers and drawings))


def _width(svg: str) -> float:
    found = re.search(r'viewBox="0 0 ([0-9.]+) ', svg)
    return float(found.group(1)) if found else 600.0


def marked(text: str) -> Markup:
    """`so` as code, **so** strong; all else escaped. A mark without another to end it is none."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _strong(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(one) if i % 2 else _strong(one) for i, one in enumerate(parts)
    )


def _strong(text: str) -> Markup:
    parts = text.split(STRONG)
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<strong>{}</strong>").format(one) if i % 2 else one for i, one in enumerate(parts))


def spoken(text: str) -> Markup:
    """With what the marks of a verdict mean, for those who do not see them."""
    html = escape(text)
    for name, mark in MARKS.items():
        if mark:
            html = html.replace(mark, Markup('<span role="img" aria-label="{}">{}</span>').format(name, mark))
    return html


@cache
def _environment() -> Environment:
    return environment([Path(__file__).parent], marked=marked, spoken=spoken)
