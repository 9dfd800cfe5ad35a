"""The pipeline runner: which stages are fresh, which must run; it stops at the first failure and can be killed.

A run is a folder with one folder per stage. A stage is fresh when its record carries the fingerprint that its
settings, its inputs and its code have now. A finished stage of a run beside this one (in the same parent folder)
with the same fingerprint is taken over by hard links instead of being computed again.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Literal

from ssl_defect import artifacts
from ssl_defect.config import FinetuneSettings, Recipe, dump_yaml, load_recipe
from ssl_defect.console import minutes, say
from ssl_defect.errors import UserError, clear_system_errors, nearest
from ssl_defect.fingerprints import STAGES, Plan, options, plan

Outcome = Literal["ran", "fresh", "taken"]


@dataclass(frozen=True)
class StageStatus:
    """How one stage of a run stands, and why."""

    stage: str
    state: Literal["done", "stale", "missing", "unknown"]
    reason: str


def run(
    recipe: Recipe, out: Path, first: str = "prepare", last: str = "report", force: bool = False
) -> dict[str, Outcome]:
    """Bring the stages from `first` to `last` of the run folder `out` up to date.

    Args:
        force: run them even where they are fresh.

    Returns:
        What happened to each stage: it `ran`, was `fresh`, or was `taken` over from a run beside this one.

    Raises:
        UserError: a setting is wrong, another process works in `out`, an earlier stage is missing or stale,
            the folder cannot be written, or a stage could not do its work.
    """
    names = _between(first, last)
    options(recipe)
    with clear_system_errors(out), _locked(out):
        plans = plan(recipe, last)
        _require_earlier(out, plans, first)
        with artifacts.atomic(out / "recipe.yaml") as temporary:  # not before: what cannot run leaves the old one
            temporary.write_text(dump_yaml(recipe), encoding="utf-8")
        return {name: _bring_up_to_date(recipe, out, plans[name], force) for name in names}


def runs_of(recipe: Recipe, out: Path) -> list[tuple[Recipe, Path]]:
    """The runs that a recipe asks for: one, or two that share their first stages where `anomaly` is beside `finetune`.

    The detector of good images alone goes into the folder beside `out` whose name ends in `-anomaly`.

    Raises:
        UserError: an option of either is wrong: said now, not when the first run is done.
    """
    if not recipe.beside:
        return [(recipe, out)]
    options(recipe)
    alone = recipe.model_copy(update={"finetune": FinetuneSettings()})
    alone.model_fields_set.discard("finetune")
    beside = out if out.name not in {"", ".."} else out.resolve()  # `.` has no name
    return [(recipe.model_copy(update={"anomaly": None}), out), (alone, beside.with_name(f"{beside.name}-anomaly"))]


def status(out: Path) -> list[StageStatus]:
    """How each stage of a run stands against the recipe in its folder.

    Raises:
        UserError: the folder is no run.
    """
    if not (out / "recipe.yaml").is_file():
        raise UserError(f"{out}: not a run (no recipe.yaml in it); give a folder that `ssl-defect run` wrote")
    try:
        plans = plan(load_recipe(out / "recipe.yaml"))
    except UserError as error:
        return [_unreachable(out / name, str(error)) for name in STAGES]
    return [_status(out / name, plans[name]) for name in STAGES]


def _unreachable(folder: Path, why: str) -> StageStatus:
    record = artifacts.read_record(folder)
    if record is None:
        return StageStatus(folder.name, "missing", "never finished")
    return StageStatus(folder.name, "unknown", f"finished {record.created}, but cannot be compared: {why}")


def _status(folder: Path, wanted: Plan) -> StageStatus:
    record = artifacts.read_record(folder)
    if record is None:
        begun = folder.with_name(f"{folder.name}.partial").is_dir()
        reason = "begun and not finished; the same command goes on" if begun else "has not run"
        return StageStatus(folder.name, "missing", reason)
    reason = wanted.difference(record)
    damaged = artifacts.damage(folder, record)
    if damaged:
        reason = f"{damaged} is missing or was altered after the stage had finished"
    if reason:
        return StageStatus(folder.name, "stale", reason)
    return StageStatus(folder.name, "done", f"{record.created}, took {minutes(record.seconds)} min")


def _require_earlier(out: Path, plans: dict[str, Plan], first: str) -> None:
    for name in list(STAGES)[: list(STAGES).index(first)]:
        found = _status(out / name, plans[name])
        if found.state != "done":
            raise UserError(
                f"{out}: stage '{name}' is {found.state} ({found.reason}), and '{first}' needs it; "
                f"run it first, or `ssl-defect run` without --from"
            )


def _bring_up_to_date(recipe: Recipe, out: Path, wanted: Plan, force: bool) -> Outcome:
    name = wanted.stage
    if not force and _status(out / name, wanted).state == "done":
        say(f"{name}: fresh, skipped")
        return "fresh"
    beside = None if force or name == "report" else _beside(out.absolute(), wanted)
    if beside:
        artifacts.take_over(beside, out / name)
        say(f"{name}: taken over from {beside.parent}")
        return "taken"
    say(f"{name}: started")
    seconds = _execute(recipe, out, wanted)
    say(f"{name}: done in {minutes(seconds)} min")
    return "ran"


def _beside(out: Path, wanted: Plan) -> Path | None:
    for path in sorted(out.parent.glob(f"*/{wanted.stage}/{artifacts.RECORD}")):
        record = artifacts.read_record(path.parent)
        same = record is not None and record.fingerprint == wanted.fingerprint
        if record and same and path.parent.parent != out and not artifacts.damage(path.parent, record):
            return path.parent
    return None


def _execute(recipe: Recipe, out: Path, wanted: Plan) -> float:
    """Run one stage in its partial folder and publish it; seconds of this process, not of killed ones before it."""
    name = wanted.stage
    partial, mark = out / f"{name}.partial", out / f".{name}.fingerprint"
    if not (partial.is_dir() and mark.is_file() and mark.read_text(encoding="utf-8") == wanted.fingerprint):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        mark.write_text(wanted.fingerprint, encoding="utf-8")
    _forget_peak()
    start = time.monotonic()
    function = getattr(import_module(STAGES[name][0]), name)
    folders = [out] if name == "report" else [out / needed for needed in STAGES[name][1]]
    function(recipe, *folders, partial)
    seconds = time.monotonic() - start
    artifacts.write_record(partial, _record(wanted, seconds))
    artifacts.publish(partial, out / name)
    mark.unlink(missing_ok=True)
    return seconds


def _record(wanted: Plan, seconds: float) -> artifacts.Record:
    return artifacts.Record(
        stage=wanted.stage,
        fingerprint=wanted.fingerprint,
        settings=wanted.settings,
        inputs=wanted.inputs,
        code=wanted.code,
        seconds=round(seconds, 2),
        peak_memory_mb=_peak_memory(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        machine=artifacts.machine(),
        versions=artifacts.versions(),
    )


def _forget_peak() -> None:
    """Begin the peak of resident memory anew; only Linux can (proc(5), clear_refs)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory() -> float:
    """Peak resident memory of this process in MiB; 0 where the system does not tell.

    On Linux since `_forget_peak`, elsewhere since the process began.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return round(int(kilobytes) / 1024, 1)
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _between(first: str, last: str) -> list[str]:
    names = list(STAGES)
    for name in (first, last):
        if name not in names:
            raise UserError(f"stage '{name}' is unknown; accepted: {', '.join(names)}{nearest(name, names)}")
    if names.index(first) > names.index(last):
        raise UserError(f"--from {first} comes after --to {last}; the order is {', '.join(names)}")
    return names[names.index(first) : names.index(last) + 1]


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{out}: another ssl-defect process works in this folder; wait for it, or give --out"
        ) from error
    try:
        yield
    finally:
        lock.release()
