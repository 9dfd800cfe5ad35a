"""A table in LaTeX, as wide as the text: an interval stands below its value, and what is still too wide is scaled."""

from __future__ import annotations

import re

from ssl_defect.table.layout import Grid, Text

LETTERS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    "<": r"$<$",
    ">": r"$>$",
    "[": "{[}",  # else an option of the line break before it
    "]": "{]}",
}
INTERVAL = re.compile(r"(?P<value>\S.*?) (?P<interval>\([^()]+ to [^()]+\).*)")
MINUS = re.compile(r"(?<![\w.-])-(?=\d)")  # a hyphen would be shorter than the plus beside it
NEXT = r"\\"  # line of a cell
PACKAGES = "adjustbox,amssymb,booktabs"


def latex(name: str, made: list[Grid], notes: list[str]) -> str:
    """The grids as tables of the package `booktabs`, each a float of its own; the notes are below the last."""
    tables = [line for number, grid in enumerate(made, 1) for line in _table(f"{name}-{number}", grid, name)]
    below = [r"{\footnotesize\sloppy", *(rf"{_note(text)}\par" for text in notes), "}"]
    return "\n".join([rf"% needs \usepackage{{{PACKAGES}}}", *tables, *below]) + "\n"


def _table(label: str, grid: Grid, name: str) -> list[str]:
    columns = "l" * len(grid.heads)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(grid.caption or name)}}}",
        rf"\label{{tab:{label}}}",
    ]
    lines += [r"\begin{adjustbox}{max width=\linewidth,max totalheight=0.9\textheight}"]
    lines += [rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule"]
    lines += [" & ".join(map(escaped, grid.heads)) + r" \\", r"\midrule"]
    for row in grid.rows:
        texts = [_bold(text) for text in row[: grid.side]] + [_figure(text) for text in row[grid.side :]]
        lines.append(" & ".join(texts) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}", r"\end{table}", ""]


def _figure(text: Text) -> str:
    """A value above its interval, and that above its p, in smaller type."""
    found = INTERVAL.fullmatch(text.text)
    if found is None:
        return _bold(text)
    interval, p, rest = found["interval"].partition(", p ")
    small = [interval, *([f"p {rest}"] if p else [])]
    lines = [_bold(Text(found["value"], text.strong)), *(rf"\scriptsize {escaped(line)}" for line in small)]
    return rf"\begin{{tabular}}[t]{{@{{}}l@{{}}}}{NEXT.join(lines)}\end{{tabular}}"


def _bold(text: Text) -> str:
    return rf"\textbf{{{escaped(text.text)}}}" if text.strong else escaped(text.text)


def _note(text: str) -> str:
    """With what stands between backticks, as in Markdown, in typewriter type."""
    parts = [escaped(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # one without its other
        return escaped(text)
    return "".join(rf"\texttt{{{part}}}" if place % 2 else part for place, part in enumerate(parts))


def escaped(text: str) -> str:
    """A text as LaTeX shows it letter by letter, with a minus before a number."""
    letters = "".join(LETTERS.get(letter, letter) for letter in text)
    return MINUS.sub("$-$", letters)
