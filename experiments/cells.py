"""Cells of a table, worked on side by side and kept as they finish: what several scripts of this folder share.

A cell is a folder: `cell.json` when it is finished, `log.txt` with what its process said. Killed and started again, a
script takes the finished cells as they are and goes on in those that were begun. A cell is made anew when its settings
change, not when the code does: delete the folder after a change to the code that matters.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from filelock import FileLock
from probing import features, knn_auroc, linear_auroc

from ssl_defect import pipeline
from ssl_defect.artifacts import digest, machine, read_json, versions, write_json
from ssl_defect.config import Recipe, load_recipe, validate
from ssl_defect.console import minutes, say
from ssl_defect.data.store import open_store
from ssl_defect.errors import UserError

HERE = Path(__file__).resolve().parent
RULE = (
    "± is the standard deviation (sd) over the seeds. A margin is the difference of the means, paired by seed; it is "
    "outside the seeds' spread (bold) where it exceeds 2 sqrt(sd_a² + sd_b²) and has the same sign for every seed."
)


@dataclass(frozen=True)
class Job:
    """A cell to be: its name, which is its folder's, and its recipe."""

    name: str
    recipe: Recipe
    facts: dict[str, Any]

    @property
    def identity(self) -> str:
        """Of what was asked for: defaults are left out, so that a new setting does not undo a day's cells."""
        beside = {"name", "description", "finetune", "evaluate", "report"}
        return digest([self.facts, self.recipe.model_dump(mode="json", exclude_unset=True, exclude=beside)])


def parser(about: str, out: str) -> argparse.ArgumentParser:
    """The options that all scripts of cells take."""
    found = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--recipe", type=Path, default=HERE / "quickstart.yaml", help="where the pictures come from")
    found.add_argument("--out", type=Path, default=Path("reports") / out)
    found.add_argument("--methods", default="", help="names with commas between; all where left out")
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--size", type=int, default=64, help="side of a picture, pixels; twice that for ViTs")
    found.add_argument("--cnn", default="resnet18", help="backbone of the methods that take a convolutional one")
    found.add_argument("--vit", default="vit_tiny_patch16_224", help="backbone of the others")
    found.add_argument("--epochs", type=int, default=0, help="for all methods; 0: each its own")
    found.add_argument("--times", type=int, default=1, help="each method's own epochs, so many times over")
    found.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells side by side, one thread each")
    found.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    found.add_argument("--table", action="store_true", help="run nothing, write the table of what is finished")
    found.add_argument("--cell", default="", help=argparse.SUPPRESS)
    return found


def chosen_methods(options: argparse.Namespace, known: Sequence[str]) -> list[str]:
    """The methods that `--methods` names, all of `known` where it names none; another one ends the script."""
    named = [name.strip() for name in options.methods.split(",") if name.strip()] or list(known)
    strange = [name for name in named if name not in known]
    if strange:
        raise SystemExit(f"--methods: {', '.join(strange)} is not among {', '.join(known)}")
    return named


def recipe_for(
    options: argparse.Namespace, backbone: str, seed: int, pretrain: dict[str, Any], more: Sequence[str] = ()
) -> Recipe:
    """The recipe of a cell, `more` as in `--set`; what `--set` says comes last."""
    if "epochs" in pretrain:
        pretrain = pretrain | {"epochs": options.epochs or pretrain["epochs"] * options.times}
    size = options.size * 2 if "vit" in backbone else options.size
    lines = [f"data.image_size={size}", f"model.backbone={backbone}", f"seed={seed}", "compute.threads=1"]
    lines += [f"pretrain.{key}={value}" for key, value in pretrain.items()]
    return load_recipe(options.recipe, [*lines, *more, *options.settings])


def prepared(out: Path, recipe: Recipe) -> Path:
    """The folder with the prepared pictures of a recipe's size."""
    return out / f"pictures-{recipe.data.image_size}" / "prepare"


def run(jobs: list[Job], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each finished cell holds, by name; cells that are not finished are worked on first, `--jobs` at a time."""
    left = [job for job in jobs if finished(options.out, job) is None]
    if not options.table:
        for recipe in {job.recipe.data.image_size: job.recipe for job in left}.values():
            pipeline.run(recipe, prepared(options.out, recipe).parent, "prepare", "prepare")
        say(f"{len(jobs) - len(left)} cells are finished, {len(left)} to go")
        _work_off(left, options)
    found = {job.name: finished(options.out, job) for job in jobs}
    return {name: cell for name, cell in found.items() if cell is not None}


def _work_off(jobs: list[Job], options: argparse.Namespace) -> None:
    start = time.monotonic()
    for job in jobs:
        (options.out / job.name).mkdir(parents=True, exist_ok=True)
        about = [job.recipe.model_dump(mode="json", exclude_unset=True), job.facts]
        write_json(options.out / job.name / "job.json", about)
    named = {job.name: job for job in jobs}
    logs = {name: options.out / name / "log.txt" for name in named}
    for done, (name, code) in enumerate(_each(logs, options.jobs), 1):
        left = (time.monotonic() - start) / done * (len(jobs) - done)
        say(f"[{done}/{len(jobs)}] {_said(named[name], options.out, code)}; about {minutes(left)} left")


def _said(job: Job, out: Path, code: int) -> str:
    """A line on how a cell went whose process ended with `code`."""
    cell = finished(out, job)
    if cell is None:
        return f"{job.name}: stopped with code {code} and is not finished, see {out / job.name / 'log.txt'}"
    if "error" in cell:
        return f"{job.name}: {cell['error']}"
    said = cell.get("said") or f"kNN {cell['knn']:.3f}, linear {cell['linear']:.3f}"
    return f"{job.name}: {said}, {cell['minutes']:.1f} min"


def _each(logs: dict[str, Path], jobs: int) -> Iterator[tuple[str, int]]:
    """This script once more with `--cell NAME` for each name, `jobs` side by side; names and exit status as they end.

    On Linux they are forks of a process that has the libraries loaded, which takes as long as a small cell does.
    """
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload(["ssl_defect.table.libraries"])
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    left = list(logs.items())
    working: dict[int, tuple[str, BaseProcess]] = {}
    while left or working:
        while left and len(working) < jobs:
            name, log = left.pop(0)
            process = context.Process(target=_again, args=([*sys.argv, "--cell", name], log))
            process.start()
            working[process.sentinel] = name, process
        for ended in wait(list(working)):
            name, process = working.pop(int(ended))  # type: ignore[call-overload]
            process.join()
            yield name, process.exitcode or 0


def _again(command: list[str], log: Path) -> None:
    """The script `command[0]` as if it had been started; what it says is added to `log`."""
    with log.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, encoding="utf-8") for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the process that was forked lets it pass
    torch.set_num_threads(1)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def run_each(names: list[str], out: Path, jobs: int) -> None:
    """This script once more with `--cell NAME` for each, `jobs` at a time, one thread each; a failed one is said."""
    logs = {name: out / f"{name}.log" for name in names}
    for number, (name, code) in enumerate(_each(logs, jobs), 1):
        said = "done" if code == 0 else f"failed, see {name}.log"
        say(f"[{number}/{len(names)}] {name}: {said}")


def finished(out: Path, job: Job) -> dict[str, Any] | None:
    """What a cell holds, or None where it is not finished or was made with other settings."""
    path = out / job.name / "cell.json"
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found if found.get("identity") == job.identity else None


def finish(out: Path, job: Job, work: Callable[[Job, Path], dict[str, Any]]) -> None:
    """Work on a cell in this process and keep it; an error that a person can act on is a result as well.

    The recipe is the one that the process which started this one wrote down: a script may be edited while it runs.
    """
    folder = out / job.name
    if (folder / "job.json").exists():
        recipe, facts = read_json(folder / "job.json")
        job = Job(job.name, validate(Recipe, recipe, job.name), facts)
    with FileLock(folder / ".lock"):  # a process whose parent was killed may still be at work on it
        if finished(out, job) is None:
            _finish(folder, job, work)


def _finish(folder: Path, job: Job, work: Callable[[Job, Path], dict[str, Any]]) -> None:
    mark = folder / "identity.json"
    if mark.exists() and read_json(mark) != job.identity:
        shutil.rmtree(folder / "work", ignore_errors=True)
    write_json(mark, job.identity)
    (folder / "work").mkdir(exist_ok=True)
    try:
        found = work(job, folder / "work")
    except UserError as error:
        found = {"error": str(error)}
    about = {"identity": job.identity, **job.facts, "machine": machine(), "versions": versions()}
    write_json(folder / "cell.json", about | found)


def probes(encoder: Path | None, job: Job, out: Path) -> dict[str, float]:
    """kNN and linear AUROC on the test images, with all labels of the training images; None: the untrained backbone."""
    folder = prepared(out, job.recipe)
    store = open_store(folder)
    found = features(encoder, job.recipe, folder, job.recipe.seed, 1)
    where = (found, store.labels, store.groups, store.rows("train"), store.rows("test"))
    return {"knn": knn_auroc(*where), "linear": linear_auroc(*where)}


def mean_sd(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation; the latter is 0 for one value."""
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def compare(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """The margin of `ours` over `theirs`, seed by seed, and whether it is outside their spread (see `RULE`)."""
    (mean, sd), (mean_theirs, sd_theirs) = mean_sd(ours), mean_sd(theirs)
    bound, margin = 2 * math.hypot(sd, sd_theirs), mean - mean_theirs
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    same_sign = all(d > 0 for d in differences) or all(d < 0 for d in differences)
    outside = len(ours) > 1 and abs(margin) > bound and same_sign
    return {"margin": margin, "bound": bound, "of_seeds": differences, "outside": outside}


def shown(values: list[float]) -> str:
    return "{:.3f} ± {:.3f}".format(*mean_sd(values))


def shown_margin(compared: dict[str, Any]) -> str:
    text = f"{compared['margin']:+.3f}"
    return f"**{text}**" if compared["outside"] else text


def about(options: argparse.Namespace) -> str:
    """What stands below a table."""
    pictures = f"Pictures of {options.recipe.stem}.yaml at {options.size} px, at {2 * options.size} px for ViTs"
    side_by_side = f"{options.jobs} cells side by side on {machine()['processor']}"
    return f"{pictures}; {options.seeds} seeds; {side_by_side}. {RULE}"


def write_table(options: argparse.Namespace, name: str, lines: list[str], rows: Any) -> None:
    """Write `name.md` and `name.json` into `--out` and print the table."""
    options.out.mkdir(parents=True, exist_ok=True)
    top = {"machine": machine(), "versions": versions(), "rule": RULE}
    write_json(options.out / f"{name}.json", top | {"rows": rows})
    (options.out / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
