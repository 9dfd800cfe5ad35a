"""A table as CSV, Markdown, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from ssl_defect.artifacts import atomic, write_json
from ssl_defect.table.answer import plain
from ssl_defect.table.latex import latex
from ssl_defect.table.layout import COSTS, Grid, Text, grids
from ssl_defect.table.results import Result, Results


def write_all(results: Results, answers: list[str], notes: list[str], out: Path) -> list[Path]:
    """Write `table.csv`, `table.md`, `table.tex` and `table.json` into `out`; their paths.

    Args:
        answers: what stands above the table, in sentences; `notes`: what stands below it.
    """
    made = grids(results)
    texts = {
        "table.csv": csv_of(results),
        "table.md": markdown(results.table.name, [results.table.description, _listed(answers)], made, notes),
        "table.tex": latex(results.table.name, made, notes),
    }
    for name, text in texts.items():
        with atomic(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    whole = {
        "name": results.table.name,
        "answers": [plain(one) for one in answers],
        "notes": notes,
        "results": rows_of(results),
    }
    write_json(out / "table.json", whole)
    return [*(out / name for name in texts), out / "table.json"]


CHANGES = ("difference", "difference_low", "difference_high", "p", "p_holm", "verdict", "winner")
ENTRIES = ("metric", "state", "reason", "seeds", "mean", "sd", "low", "high")
RESERVED = {*ENTRIES, *CHANGES, "published", "published_source", *(key for key, _, _ in COSTS)}
"""Columns of CSV and JSON beside the axes, whose names no axis may have."""


def rows_of(results: Results) -> list[dict[str, Any]]:
    """A plain row per cell and metric: what CSV and JSON hold."""
    return [_row(one, results) for one in results.every]


def _row(one: Result, results: Results) -> dict[str, Any]:
    entry, change = one.entry or {}, one.change or {}
    measured = results.measured.get(one.cell.name)
    costs = {key: measured.cost(key) if measured else None for key, _, _ in COSTS}
    figures = "; ".join(f"{value:.6g}" + (f" ± {error:.3g}" if error else "") for _, value, error in one.published)
    sources = "; ".join(results.table.published[number - 1].source for number, _, _ in one.published)
    return {
        **one.cell.labels,
        "metric": one.metric,
        "state": one.state,
        "reason": one.reason,
        "seeds": one.seeds,
        "mean": entry.get("value"),
        "sd": entry.get("sd"),
        "low": entry.get("low"),
        "high": entry.get("high"),
        "difference": change.get("value"),
        "difference_low": change.get("low"),
        "difference_high": change.get("high"),
        "p": change.get("p"),
        "p_holm": change.get("holm"),
        "verdict": one.verdict,
        "winner": one.winner,
        "published": figures,
        "published_source": sources,
        **costs,
    }


def csv_of(results: Results) -> str:
    """One line per cell and metric; empty where undefined. Metrics and published figures are shares."""
    rows = rows_of(results)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def markdown(name: str, above: list[str], made: list[Grid], notes: list[str]) -> str:
    """The grids as GitHub's tables below paragraphs, the notes as a list below."""
    lines = [f"# {name}", ""]
    for paragraph in filter(None, above):
        lines += [paragraph, ""]
    for grid in made:
        lines += [f"**{grid.caption}**", ""] if grid.caption else []
        lines.append("| " + " | ".join(map(_plain, grid.heads)) + " |")
        lines.append("|" + "---|" * len(grid.heads))
        lines += ["| " + " | ".join(map(_marked, row)) + " |" for row in grid.rows]
        lines.append("")
    return "\n".join([*lines, _listed(notes)]) + "\n"


def _listed(texts: list[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _marked(text: Text) -> str:
    return f"**{_plain(text.text)}**" if text.strong else _plain(text.text)
