"""table: a recipe with a matrix to runs, and their results to one table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ssl_defect.artifacts import atomic
from ssl_defect.console import say
from ssl_defect.data.contents import remembering
from ssl_defect.errors import UserError, clear_system_errors
from ssl_defect.table.answer import answers, in_short, plain
from ssl_defect.table.average import means_of
from ssl_defect.table.diagram import diagram
from ssl_defect.table.expand import Cell, Run, baseline_of, cells_of, runs_of
from ssl_defect.table.folds import over_folds
from ssl_defect.table.forest import forest
from ssl_defect.table.layout import Grid
from ssl_defect.table.machine import Place, ThisMachine
from ssl_defect.table.measure import Measured, measure
from ssl_defect.table.planning import Job, jobs_of, overview, read_work
from ssl_defect.table.protocol import notes
from ssl_defect.table.results import Results, judge
from ssl_defect.table.settings import TableSettings, load_table
from ssl_defect.table.so_far import Looks, standing, whole_seeds
from ssl_defect.table.trial import try_stages
from ssl_defect.table.validation import measure_validation
from ssl_defect.table.work import work_off
from ssl_defect.table.write import RESERVED, write_all

DRAWS = 2000  # at least; Holm's correction of m differences needs some more than 2 m / alpha
COMPARISON = "comparison"
DIGESTS = ".pictures.json"


@dataclass(frozen=True)
class Request:
    """What the command line asks for: `jobs` 0 is as many as fit; `only` names cells; `settings` as in `--set`.

    `ray` is the address of a Ray cluster, empty for this machine. With `estimate` nothing is run but a few steps of
    each kind of stage, on drawn pictures. With `so_far` nothing is run, and the table is of what is finished.
    """

    recipe: Path
    out: Path | None = None
    jobs: int = 0
    only: Sequence[str] = ()
    settings: Sequence[str] = ()
    ray: str = ""
    estimate: bool = False
    so_far: bool = False


def make(asked: Request, dry: bool = False) -> list[Path]:
    """Run what is missing and write the table, before its end whenever one more seed is whole; what was written.

    Args:
        dry: run nothing and make no folder, print what would run.

    Raises:
        UserError: a wrong recipe, no run that can be run, another table at work in the folder, or no run finished.
    """
    dry = dry or asked.estimate
    if dry and asked.so_far:
        raise UserError("--so-far writes a table, and --dry-run and --estimate write nothing; give one of them")
    table, for_runs = load_table(asked.recipe, list(asked.settings))
    cells = cells_of(table, str(asked.recipe))
    _check_axes(table, asked.recipe)
    _check_baseline(table, cells, asked.recipe)
    means_of(table, cells, str(asked.recipe))  # before anything runs
    runs = runs_of(table, cells, asked.recipe, for_runs)
    out = asked.out or Path("reports") / table.name
    chosen = _chosen(runs, asked.only)
    with clear_system_errors(out), remembering(out / DIGESTS):
        if not (dry or asked.so_far):
            out.mkdir(parents=True, exist_ok=True)
        jobs = jobs_of(runs, out, table.last_stage)
        mine = [job for job in jobs if job.run in chosen]

        def write(seeds: list[int], failed: dict[str, str]) -> list[Path]:
            some = [job for job in jobs if not seeds or job.run.seed in seeds]
            return _write(table, cells, some, failed, out, standing(mine, seeds))

        if asked.so_far:
            return write(whole_seeds(mine), {})
        work = read_work(out)
        with nullcontext(ThisMachine()) if dry else _place(asked) as place:
            limit = asked.jobs or place.places(work)
            if asked.estimate:
                try_stages(mine, work, limit)
            lines = overview(mine, work, limit)
            if dry:
                print("\n".join(lines))
                return []
            say("\n".join(lines[-2:]))
            try:
                failed = work_off(mine, out, work, limit, place, Looks(mine, write))
            except KeyboardInterrupt:
                say(f"{sum(job.finished for job in mine)} of {len(mine)} runs are finished: --so-far has their table")
                raise
        return _write(table, cells, jobs, failed, out)


def _place(asked: Request) -> AbstractContextManager[Place]:
    if not asked.ray:
        return nullcontext(ThisMachine())
    from ssl_defect.table.cluster import cluster

    return cluster(asked.ray)


def _check_axes(table: TableSettings, path: Path) -> None:
    if both := sorted(RESERVED & set(table.matrix)):
        raise UserError(f"{path}: matrix: '{both[0]}' is a column of every table's results; name the axis otherwise")


def _check_baseline(table: TableSettings, cells: list[Cell], path: Path) -> None:
    if table.baseline and not any(baseline_of(cell, cells, table) for cell in cells):
        wanted = ", ".join(f"{axis}: {value}" for axis, value in table.baseline.items())
        raise UserError(f"{path}: baseline: no cell can be compared with {{{wanted}}}; give one of the table's rows")


def _chosen(runs: list[Run], only: Sequence[str]) -> list[Run]:
    """Runs that one of the names fits: a value of an axis, or a pattern of the run's name."""
    found = []
    for name in only:
        some = [run for run in runs if name in run.cell.labels.values() or fnmatchcase(run.name, name)]
        if not some:
            values = dict.fromkeys(value for run in runs for value in run.cell.labels.values())
            raise UserError(
                f"--only {name}: no run is named so; give a value ({', '.join(values)}) or a pattern of names such as "
                f"{runs[0].name}"
            )
        found += some
    return [run for run in runs if run in found] if only else runs


def _write(
    table: TableSettings, cells: list[Cell], jobs: list[Job], failed: dict[str, str], out: Path, first: str = ""
) -> list[Path]:
    """Write the table of these runs; `first` stands above all that it says."""
    ready = [job for job in jobs if job.finished]
    if not ready:
        reason = next(iter(failed.values()), "nothing was run")
        raise UserError(f"{out}: no run of the table is finished: {reason}")
    results = _results(table, cells, jobs, failed)
    base = table.base if isinstance(table.base, str) else "in the table"
    folders = {cell.name: [job.folder for job in ready if job.run.cell is cell] for cell in cells}
    said = answers(results, folders)
    below = notes(results, base, said)
    said = [*filter(None, [first, in_short(results)]), *said]
    for line in said:
        say(f"table: {plain(line)}")
    written, drawings = write_all(results, said, below, out), []
    for metric, ranked in results.ranked.items():
        path = out / f"ranks-{metric.replace(' ', '_')}.svg"
        with atomic(path) as temporary:
            temporary.write_text(diagram(ranked, f"{table.name}: {metric}"), encoding="utf-8", newline="\n")
        written.append(path)
    for metric in table.metrics:
        figure = forest(results, metric)
        if figure:
            path = out / f"differences-{metric.replace(' ', '_')}.svg"
            with atomic(path) as temporary:
                temporary.write_text(figure, encoding="utf-8", newline="\n")
            written.append(path)
            drawings.append(figure)
    if table.html and len(ready) > 1 and table.last_stage == "evaluate":
        written.append(_compared(ready, results, (said, below, drawings), out))
    for old in {*out.glob("ranks-*.svg"), *out.glob("differences-*.svg"), out / COMPARISON / "index.html"} - {*written}:
        old.unlink(missing_ok=True)  # of another table that was here: it would stand beside this one's figures
    return written


def _results(table: TableSettings, cells: list[Cell], jobs: list[Job], failed: dict[str, str]) -> Results:
    measured: dict[str, Measured] = {}
    reasons: dict[str, str] = {}
    for cell in cells:
        mine = [job for job in jobs if job.run.cell is cell]
        told = [f"{_which(job.run, table)}: {failed[job.name]}" for job in mine if job.name in failed]
        if told:
            reasons[cell.name] = told[0]
        if done := _finished(mine, table):
            measured[cell.name] = over_folds([_measured(cell, fold, table) for fold in done])
    planned = len({job.run.seed for job in jobs})
    return judge(table, [*cells, *means_of(table, cells)], measured, reasons, planned)


def _which(run: Run, table: TableSettings) -> str:
    return f"fold {run.fold + 1}, seed {run.seed}" if table.folds else f"seed {run.seed}"


def _finished(mine: list[Job], table: TableSettings) -> list[list[tuple[int, Path]]]:
    """Seeds with their folders, fold by fold: those that are finished on every fold. Empty where there is none."""
    folds = range(table.folds or 1)
    done = {(job.run.fold, job.run.seed): job.folder for job in mine if job.finished}
    seeds = [seed for seed in table.seed_list if all((fold, seed) in done for fold in folds)]
    return [[(seed, done[fold, seed]) for seed in seeds] for fold in folds] if seeds else []


def _measured(cell: Cell, runs: list[tuple[int, Path]], table: TableSettings) -> Measured:
    if table.last_stage == "finetune":
        return measure_validation(cell, runs)
    return measure(cell, runs, table.metrics)


def _compared(ready: list[Job], results: Results, texts: tuple[list[str], list[str], list[str]], out: Path) -> Path:
    """The table's page: its answers, notes and drawings in `texts`, and the comparison of all finished runs."""
    from ssl_defect.compare.measure import METRICS
    from ssl_defect.compare.page import compare
    from ssl_defect.table.page import lead

    table, cells = results.table, results.cells
    bases = {cell.name: one.name for cell in cells if (one := baseline_of(cell, cells, table))}
    bases |= {name: name for name in bases.values()}
    folders = {(job.run.cell.name, job.run.fold): job.folder for job in reversed(ready)}
    told = {job.folder: folders.get((bases.get(job.run.cell.name, ""), job.run.fold)) for job in ready}
    metric = next((name for name in table.metrics if name in METRICS), "")
    above = lead(results, *texts)
    runs = [job.folder for job in ready]
    return compare(runs, out / COMPARISON, told=told if bases else None, metric=metric, lead=above)


def shown(grid: Grid) -> str:
    """A grid as lines for a terminal."""
    rows = [grid.heads, *([text.text + "*" * text.strong for text in row] for row in grid.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*([grid.caption] if grid.caption else []), *lines])
