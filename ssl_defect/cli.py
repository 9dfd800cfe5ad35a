"""The commands: one per stage, and those around them. Heavy imports happen inside, so that `--help` is instant."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ssl_defect import __version__, cli_tables
from ssl_defect.cli_options import Force, Out, Overrides, RecipeFile, RunFolder, Set
from ssl_defect.errors import UserError

app = typer.Typer(
    name="ssl-defect",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which self-supervised pretraining makes my defect detector better, by how much, with how few labels?",
)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


app.command()(cli_tables.which)


def _run(recipe_file: Path, settings: list[str], out: Path | None, stages: tuple[str, str], force: bool) -> None:
    from ssl_defect import pipeline
    from ssl_defect.config import load_recipe

    recipe = load_recipe(recipe_file, settings)
    folder = out or Path("reports") / recipe.name
    runs = pipeline.runs_of(recipe, folder)
    for one, place in runs:
        pipeline.run(one, place, *stages, force=force)
    for _, place in runs if stages[1] == "report" else []:
        print(f"report: {place / 'report' / 'index.html'}")
    if len(runs) > 1 and stages[1] == "report":
        from ssl_defect.compare.page import compare as compare_runs

        print(f"comparison: {compare_runs([place for _, place in runs], folder / 'compare')}")


def _stage_command(name: str) -> Callable[..., None]:
    def command(
        recipe: RecipeFile, more: Overrides = None, set_: Set = None, out: Out = None, force: Force = False
    ) -> None:
        _run(recipe, [*(set_ or []), *(more or [])], out, (name, name), force)

    return command


for _name, _line in {
    "prepare": "Raw folder to samples.csv, splits, cache and audit.",
    "pretrain": "Pictures without labels to an encoder.",
    "finetune": "Encoder and labels to a detector.",
    "evaluate": "Detector to predictions, metrics with intervals, curves and embeddings.",
    "report": "Records to one self-contained HTML page.",
}.items():
    app.command(_name, help=_line)(_stage_command(_name))


@app.command()
def run(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    recipe: RecipeFile,
    more: Overrides = None,
    set_: Set = None,
    out: Out = None,
    first: Annotated[str, typer.Option("--from", metavar="STAGE", help="First stage to bring up to date.")] = "prepare",
    last: Annotated[str, typer.Option("--to", metavar="STAGE", help="Last stage to bring up to date.")] = "report",
    force: Force = False,
) -> None:
    """All stages, from raw pictures to the report; what is fresh is skipped."""
    _run(recipe, [*(set_ or []), *(more or [])], out, (first, last), force)


@app.command()
def crossval(
    recipe: RecipeFile,
    more: Overrides = None,
    set_: Set = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds; each is the test split once.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the folds' runs; reports/<recipe's name>-crossval where left out.")
    ] = None,
    force: Force = False,
) -> None:
    """The whole pipeline once per fold: mean and spread of the metrics over all folds."""
    from ssl_defect.config import load_recipe
    from ssl_defect.crossval import SUMMARY, cross_validate, table

    loaded = load_recipe(recipe, [*(set_ or []), *(more or [])])
    folder = out or Path("reports") / f"{loaded.name}-crossval"
    print(table(cross_validate(loaded, folds, folder, force)))
    print(f"summary: {folder / SUMMARY}")


app.command()(cli_tables.compare)
app.command()(cli_tables.table)


@app.command()
def status(run: RunFolder) -> None:
    """Which stages of a run are done, stale or missing, and why."""
    from ssl_defect import pipeline

    for row in pipeline.status(run):
        print(f"{row.stage:9} {row.state:8} {row.reason}")


@app.command()
def predict(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Pictures, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv and the overlays.")],
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score from which a picture is defective; else the run's own.")
    ] = None,
) -> None:
    """Scores, verdicts and overlays for new pictures, from the run alone."""
    from ssl_defect.errors import clear_system_errors
    from ssl_defect.predict import predict as predict_images

    with clear_system_errors(out):
        rows = predict_images(run, images, out, threshold=threshold)
    print(f"{out / 'predictions.csv'}: {len(rows)} pictures")


@app.command()
def methods() -> None:
    """The ways of pretraining, a line each."""
    from ssl_defect.pretrain import METHODS

    _list(METHODS)


@app.command()
def tasks() -> None:
    """The tasks of fine-tuning, a line each."""
    from ssl_defect.finetune import CLASSICAL, TASKS

    _list(TASKS | CLASSICAL)


@app.command()
def detectors() -> None:
    """The detectors that know good parts alone, a line each."""
    from ssl_defect.nets.anomaly import DETECTORS

    _list(DETECTORS)


@app.command()
def datasets() -> None:
    """The layouts of raw folders that can be read, a line each."""
    from ssl_defect.data.sources import SOURCES

    _list(SOURCES)


def _list(table: dict[str, tuple[str, str]]) -> None:
    for name, (_, line) in table.items():
        print(f"{name:15} {line}")


@app.command()
def schema() -> None:
    """JSON schema of a recipe, for editors."""
    from ssl_defect.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit status 1."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        again = "begins again" if sys.argv[1:2] == ["predict"] else "goes on from here"
        print(f"stopped; the same command {again}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
