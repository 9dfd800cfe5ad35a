"""The commands over many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_defect.cli_options import Overrides, Set

TableOut = Annotated[
    Path | None, typer.Option("--out", help="Folder of the runs; reports/<table's name> where left out.")
]
Jobs = Annotated[int, typer.Option(min=0, help="Runs side by side; 0: as cores and memory allow.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A value of the matrix, or a run's name or its pattern, such as 'imagenet-5-*'; may be repeated.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run, for how long; run nothing.")]
Estimate = Annotated[bool, typer.Option("--estimate", help="A dry run that first tries what was never run.")]
SoFar = Annotated[bool, typer.Option("--so-far", help="Run nothing; write the table of what is finished.")]
Ray = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Run on a Ray cluster: local, auto or its address; this folder, the pictures and --out must be on a "
        "path that all its machines share.",
        show_default=False,
    ),
]


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders that runs wrote, two or more.")],
    out: Annotated[Path, typer.Option(help="Folder for index.html.")] = Path("reports/compare"),
    baseline: Annotated[Path | None, typer.Option(metavar="RUN", help="Measured against; else one untrained.")] = None,
    metric: Annotated[str, typer.Option(help="What to go by, such as 'pixel aupro'.")] = "",
) -> None:
    """One page that sets finished runs side by side: quality with paired differences, cost, and disagreements."""
    from ssl_defect.compare.page import compare as compare_runs

    print(f"comparison: {compare_runs(runs, out, baseline, metric=metric)}")


def table(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file, such as those in experiments/tables.")],
    more: Overrides = None,
    set_: Set = None,
    out: TableOut = None,
    jobs: Jobs = 0,
    only: Only = None,
    dry_run: DryRun = False,
    estimate: Estimate = False,
    so_far: SoFar = False,
    ray: Ray = "",
) -> None:
    """A matrix of settings, run without doing the same work twice: one table with paired differences."""
    from ssl_defect.table.command import Request, make

    asked = Request(recipe, out, jobs, only or (), [*(set_ or []), *(more or [])], ray, estimate, so_far)
    for path in make(asked, dry_run):
        print(f"table: {path}")


def which(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    pictures: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Pictures: good/ and a folder per defect, masks/ if there are any.")
    ],
    more: Overrides = None,
    set_: Set = None,
    out: TableOut = None,
    jobs: Jobs = 0,
    only: Only = None,
    dry_run: DryRun = False,
    estimate: Estimate = False,
    so_far: SoFar = False,
    ray: Ray = "",
) -> None:
    """Which pretraining makes a detector of these pictures better, by how much, with how few labels: that detector."""
    from ssl_defect.table.command import Request
    from ssl_defect.table.which import which as make_table

    asked = Request(Path(), out, jobs, only or (), [*(set_ or []), *(more or [])], ray, estimate, so_far)
    for path in make_table(pictures, asked, dry_run):
        print(f"which: {path}")
