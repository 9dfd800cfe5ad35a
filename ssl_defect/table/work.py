"""A table's runs worked off in processes of their own, side by side; no stage is made twice, none by two at a time.

A run starts when no running one is at work on a stage that it needs. What a stopped or killed table left is gone on
with; a process that outlived its table is waited for. A failed run is said, with those that need what failed in it.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from ssl_defect.artifacts import atomic
from ssl_defect.config import dump_yaml
from ssl_defect.console import minutes, say
from ssl_defect.errors import UserError
from ssl_defect.table.machine import LOG, Place, Process, ThisMachine
from ssl_defect.table.planning import Job, Work, estimate, stands, to_do

PAUSE = 0.25  # seconds between two looks at the processes


@dataclass(eq=False)
class Crew:
    """The runs of a table on their way: waiting, at work, and why some failed."""

    work: Work
    limit: int
    waiting: list[Job]
    place: Place = field(default_factory=ThisMachine)
    active: dict[str, tuple[Job, Process | None]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # fingerprint of a stage that failed -> the run it failed in
    logged: dict[str, int] = field(default_factory=dict)  # bytes that an earlier attempt left in a run's log
    began: float = field(default_factory=time.monotonic)
    total: int = 0
    ended: int = 0


def work_off(
    jobs: Sequence[Job],
    out: Path,
    work: Work,
    limit: int,
    place: Place | None = None,
    look: Callable[[dict[str, str]], None] | None = None,
) -> dict[str, str]:
    """Bring the runs up to date, `limit` at a time; the reasons of those that failed, by name.

    Args:
        look: called with these reasons after a run has ended, while others are still to come.

    Raises:
        UserError: another table works in `out`.
    """
    left = [job for job in jobs if job.stages and not job.finished]
    failed = {job.name: job.reason for job in jobs if not job.stages}
    if left:
        with _alone(out), _told_to_end():
            orphans = [job for job in left if _busy(job.folder)]  # at work for a table that was killed
            others = _in_order([job for job in left if job not in orphans], work)
            crew = Crew(work, limit, others, place or ThisMachine(), failed=failed, total=len(left))
            crew.active |= {job.name: (job, None) for job in orphans}
            try:
                while crew.waiting or crew.active:
                    ended = crew.ended
                    _step(crew)
                    if look and crew.ended > ended and (crew.waiting or crew.active):
                        look(failed)
                    time.sleep(PAUSE)
            finally:
                _stop(crew)
    return failed


def _in_order(jobs: Sequence[Job], work: Work) -> list[Job]:
    """Seed by seed, first the runs that pretrain: what is shared is there early, and none is left for the end alone."""
    owners = {job.name for job, stage in to_do(jobs, work).values() if stage.stage == "pretrain"}
    seeds = list(dict.fromkeys(job.run.seed for job in jobs))
    return sorted(jobs, key=lambda job: (seeds.index(job.run.seed), job.name not in owners))


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".table.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{out}: another table works in this folder; wait for it, or give --out") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM, by which services and clusters end a program, is an interruption too: the runs are ended with it."""
    if threading.current_thread() is not threading.main_thread():  # no other thread may handle signals
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _step(crew: Crew) -> None:
    crew.work.look(job for job, _ in crew.active.values())
    for name, (job, process) in list(crew.active.items()):
        if process is None and not _busy(job.folder):  # of an earlier table: it ended, so look what it left
            del crew.active[name]
            crew.waiting.insert(0, job)
        elif process is not None and (code := process.poll()) is not None:
            del crew.active[name]
            crew.work.look([job])
            _ended(crew, job, code)
    for job in list(crew.waiting):
        if blame := next((crew.broken[key] for key in job.fingerprints if key in crew.broken), None):
            crew.waiting.remove(job)
            crew.failed[job.name] = f"needs what failed in {blame}: {crew.failed[blame]}"
            _said(crew, job, f"failed, {crew.failed[job.name]}")
        elif _may_start(crew, job):
            crew.waiting.remove(job)
            if job.finished:  # by a process of an earlier table
                _said(crew, job, "done")
            else:
                crew.active[job.name] = (job, None if _busy(job.folder) else _start(crew, job))


def _may_start(crew: Crew, job: Job) -> bool:
    """Whether there is a place and memory for it, and nobody is at work on a stage that it needs."""
    if len(crew.active) >= crew.limit:
        return False
    claimed = {key for other, _ in crew.active.values() for key in other.fingerprints} - crew.work.done
    room = not crew.active or crew.place.room(crew.work)
    return room and not claimed & job.fingerprints


def _busy(folder: Path) -> bool:
    """Whether a process works in the run's folder."""
    if not folder.is_dir():
        return False
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True


def _start(crew: Crew, job: Job) -> Process:
    recipe = job.run.recipe
    if not recipe.compute.threads:
        compute = recipe.compute.model_copy(update={"threads": crew.place.threads(crew.limit)})
        recipe = recipe.model_copy(update={"compute": compute})
    job.folder.mkdir(parents=True, exist_ok=True)
    log = job.folder / LOG
    crew.logged[job.name] = log.stat().st_size if log.exists() else 0
    with atomic(job.folder / "recipe.yaml") as temporary:
        temporary.write_text(dump_yaml(recipe), encoding="utf-8")
    count = str(recipe.compute.threads)
    threads = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    return crew.place.start(command_of(job.folder, job.stages[-1].stage), job.folder, threads, recipe.compute)


def command_of(folder: Path, last: str) -> list[str]:
    """What brings the run in a folder up to date, to the stage `last`: the table takes the place of its page."""
    recipe = str(folder / "recipe.yaml")
    return [sys.executable, "-m", "ssl_defect.cli", "run", recipe, "--out", str(folder), "--to", last]


def _ended(crew: Crew, job: Job, code: int) -> None:
    if job.finished:
        _said(crew, job, "done")
        return
    crew.failed[job.name] = reason_of(job.folder, code, crew.logged[job.name])
    for stage in job.stages:
        if not stands(job.folder, stage):
            crew.broken[stage.fingerprint] = job.name
            break
    _said(crew, job, f"failed, {crew.failed[job.name]}")


def reason_of(folder: Path, code: int, since: int) -> str:
    """The last line of a run's log after the bytes of earlier attempts, with the signal that ended it if one did."""
    if code == 0:
        return "the code changed while it ran; give the same command again"
    try:
        lines = (folder / LOG).read_bytes()[since:].decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    last = next((line.strip().removeprefix("error: ") for line in reversed(lines) if line.strip()), "")
    if code > 0:
        return last or "it said nothing"
    memory = " (out of memory?)" if code == -9 else ""
    return f"killed by signal {-code}{memory}; {f'last said: {last}' if last else 'it said nothing'}"


def _said(crew: Crew, job: Job, how: str) -> None:
    crew.ended += 1
    waiting = [*crew.waiting, *(one for one, _ in crew.active.values())]
    stages = [stage for _, stage in to_do(waiting, crew.work).values()]
    left = f"; time left: {estimate(stages, crew.work, crew.limit)}" if stages else ""
    spent = minutes(time.monotonic() - crew.began)
    say(f"[{crew.ended}/{crew.total}] {job.name}: {how}; {spent} so far{left}")


def _stop(crew: Crew) -> None:
    """End the processes of this table: it was interrupted, and goes on from there next time."""
    for _, process in crew.active.values():
        if process is not None and process.poll() is None:
            process.terminate()
    for _, process in crew.active.values():
        if process is not None:
            process.wait()
