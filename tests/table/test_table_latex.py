"""A table in LaTeX: every figure that the grids hold, escaped, no wider than the text."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_table_results import results, table_of

from ssl_defect.table.latex import PACKAGES, escaped, latex
from ssl_defect.table.layout import Grid, Text, grids
from ssl_defect.table.protocol import notes

WIDE = Grid(
    "pixel ap: difference from none",
    ["start", *(f"learns from {n}" for n in range(8))],
    [
        [Text(f"row {row}"), *[Text("-0.049 (-0.137 to +0.135), p <0.001, Holm 0.244", strong=True)] * 8]
        for row in range(60)
    ],
)


def test_every_cell_of_the_grids_is_there() -> None:
    found = results(table_of(name="t_1"))
    made = grids(found)
    tex = latex("t_1", made, notes(found, "base_file.yaml"))
    assert tex.count(r"\begin{table}") == tex.count(r"\end{adjustbox}") == len(made)
    assert r"\textbf{" in tex
    assert r"base\_file.yaml" in tex
    assert not set("▲±▼") & set(tex)
    rows = [line for line in tex.splitlines() if line.endswith(r" \\")]
    assert [line.count(" & ") + 1 for line in rows] == [
        count for grid in made for count in [len(grid.heads)] * (1 + len(grid.rows))
    ]


def test_an_interval_stands_below_its_value() -> None:
    grid = Grid(
        "", ["start", "image auroc"], [[Text("CutPaste (5 to 9)"), Text("0.750 ± 0.040 (0.640 to 0.840), n=3 ▲")]]
    )
    (line,) = [line for line in latex("t", [grid], []).splitlines() if line.startswith("CutPaste")]
    name, cell = line.removesuffix(r" \\").split(" & ")
    assert name == "CutPaste (5 to 9)"  # what names a row is no value
    value, interval = re.fullmatch(
        r"\\begin\{tabular\}\[t\]\{@\{\}l@\{\}\}(.+)\\\\\\scriptsize (.+)\\end\{tabular\}", cell
    ).groups()  # type: ignore[union-attr]
    assert value == r"0.750 $\pm$ 0.040"
    assert interval == r"(0.640 to 0.840), n=3 $\blacktriangle$"


def test_a_bold_difference_has_a_plain_interval_and_a_line_for_its_p() -> None:
    change = Text("-0.049 (-0.137 to -0.001), p <0.001, Holm 0.244", strong=True)
    tex = latex("t", [Grid("", ["a", "b"], [[Text("x"), change]])], [])
    below = r"\\\scriptsize ($-$0.137 to $-$0.001)\\\scriptsize p $<$0.001, Holm 0.244\end{tabular}"
    assert rf"\textbf{{$-$0.049}}{below}" in tex


def test_a_row_that_begins_with_a_bracket_is_no_option_of_a_line_break() -> None:
    table = table_of(matrix={"start": {"none": {}, "[mae]": {}}}, baseline={})
    tex = latex("t", grids(results(table, **{"[mae]": 1})), [])
    assert "\n{[}mae{]} & " in tex


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a-1, 2024-11-30, simclr-2", "a-1, 2024-11-30, simclr-2"),
        ("-1 (-0.5 to +2)", "$-$1 ($-$0.5 to +2)"),
        (
            r"50% of \x_y {z} #1 & ~ ^ $",
            r"50\% of \textbackslash{}x\_y \{z\} \#1 \& \textasciitilde{} \textasciicircum{} \$",
        ),
    ],
)
def test_letters_are_shown_as_they_are(text: str, wanted: str) -> None:
    assert escaped(text) == wanted


def test_what_stands_between_backticks_is_typewriter() -> None:
    assert "\nwith \\texttt{data.image\\_size} 64\\par\n" in latex("t", [], ["with `data.image_size` 64"])
    assert "\none ` alone\\par\n" in latex("t", [], ["one ` alone"])


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_it_compiles_and_fits_the_text(tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(latex("t_1", [*grids(results(table_of(name="t_1"))), WIDE], ["`a_b` 5%"]))
    lines = [
        r"\documentclass{article}",
        rf"\usepackage{{{PACKAGES}}}",
        r"\begin{document}",
        r"\input{table}",
        r"\end{document}",
    ]
    (tmp_path / "paper.tex").write_text("\n".join(lines))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1500:]
    assert "Overfull" not in done.stdout
    assert "Float too large" not in done.stdout
