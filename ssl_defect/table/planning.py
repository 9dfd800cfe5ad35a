"""What a table has to do: the stages of its runs, which of them are finished, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from ssl_defect import artifacts
from ssl_defect.artifacts import Record, read_record
from ssl_defect.console import minutes
from ssl_defect.errors import UserError
from ssl_defect.fingerprints import STAGES, Inputs, Plan, plan
from ssl_defect.table.expand import Run

KINDS = {"pretrain": "method", "finetune": "task", "prepare": "source"}


@dataclass(frozen=True, eq=False)
class Job:
    """A run and its stages in order; without stages where they cannot be known, and `reason` says why."""

    run: Run
    folder: Path
    stages: tuple[Plan, ...] = ()
    reason: str = ""

    @property
    def name(self) -> str:
        """Of the run and of its folder."""
        return self.run.name

    @property
    def fingerprints(self) -> set[str]:
        """Of the stages that its process works on."""
        return {stage.fingerprint for stage in self.stages}

    @property
    def finished(self) -> bool:
        """Whether its folder holds the whole run as the recipe wants it now."""
        return bool(self.stages) and all(stands(self.folder, stage) for stage in self.stages)


def stands(run: Path, stage: Plan) -> bool:
    """Whether a run's folder holds this very stage, undamaged as far as its sizes tell."""
    record = read_record(run / stage.stage)
    return record is not None and record.fingerprint == stage.fingerprint and _whole(run / stage.stage, record)


def _whole(folder: Path, record: Record) -> bool:
    return all(_size(folder / name) == size for name, (size, _) in record.outputs.items())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def jobs_of(runs: Sequence[Run], out: Path, last: str = "evaluate") -> list[Job]:
    """The runs with their stages up to `last`. A run whose pictures cannot be read has none: the others go on.

    Raises:
        UserError: no run's pictures can be read.
    """
    inputs = Inputs()
    jobs = [_job(run, out / run.name, last, inputs) for run in runs]
    if jobs and not any(job.stages for job in jobs):
        raise UserError(jobs[0].reason)
    return jobs


def _job(run: Run, folder: Path, last: str, inputs: Inputs) -> Job:
    try:
        return Job(run, folder, tuple(plan(run.recipe, last, inputs).values()))
    except UserError as error:
        return Job(run, folder, (), str(error))


@dataclass(eq=False)
class Work:
    """Stages that are finished somewhere in the table's folder, and how long such stages took.

    `guessed` has seconds by fingerprint for stages of which that is not known.
    """

    done: set[str] = field(default_factory=set)
    took: list[tuple[str, dict[str, Any], float]] = field(default_factory=list)
    guessed: dict[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0

    def add(self, record: Record) -> None:
        """Count in a finished stage, once however many runs share it."""
        if record.fingerprint in self.done:
            return
        self.done.add(record.fingerprint)
        self.took.append((record.stage, record.settings, record.seconds))
        self.peak_mb = max(self.peak_mb, record.peak_memory_mb)

    def look(self, jobs: Iterable[Job]) -> None:
        """Count in what the folders of these runs hold."""
        for job in jobs:
            for stage in job.stages:
                if stage.fingerprint not in self.done and stands(job.folder, stage):
                    record = read_record(job.folder / stage.stage)
                    if record:
                        self.add(record)

    def seconds(self, stage: Plan) -> float | None:
        """What stages of the same settings but for the seed took, else of the same method or task, else as guessed.

        None: unknown.
        """
        kind = KINDS.get(stage.stage, "")
        same = [(settings, took) for name, settings, took in self.took if name == stage.stage]
        exact = [took for settings, took in same if _but_seed(settings) == _but_seed(stage.settings)]
        alike = [took for settings, took in same if settings.get(kind) == stage.settings.get(kind)]
        return fmean(exact or alike) if exact or alike else self.guessed.get(stage.fingerprint)


def _but_seed(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "seed"}


def read_work(out: Path) -> Work:
    """What the folder holds from earlier, of other recipes and other code too."""
    work = Work()
    for path in sorted(out.glob(f"*/*/{artifacts.RECORD}")):
        record = read_record(path.parent)
        if record and _whole(path.parent, record):
            work.add(record)
    return work


def to_do(jobs: Sequence[Job], work: Work) -> dict[str, tuple[Job, Plan]]:
    """Stages that are still to be made, by fingerprint, with the first run that needs each."""
    found: dict[str, tuple[Job, Plan]] = {}
    for job in jobs:
        for stage in job.stages:
            if stage.fingerprint not in work.done:
                found.setdefault(stage.fingerprint, (job, stage))
    return found


def estimate(stages: Iterable[Plan], work: Work, side_by_side: int) -> str:
    """`'about 5:00'`, `'at least 5:00 (3 stages unknown)'` or `'unknown'`: for stages shared out among processes."""
    known = [work.seconds(stage) for stage in stages]
    if not known:
        return "nothing"
    sure = [seconds for seconds in known if seconds is not None]
    if not sure:
        return "unknown"
    text = minutes(max(sum(sure) / max(1, side_by_side), *sure))
    missing = len(known) - len(sure)
    return f"at least {text} ({missing} of {len(known)} stages unknown)" if missing else f"about {text}"


def overview(jobs: Sequence[Job], work: Work, side_by_side: int) -> list[str]:
    """What would run, a line per run, and how long it may take."""
    left = to_do(jobs, work)
    owners = {key: job for key, (job, _) in left.items()}
    width = max((len(job.name) for job in jobs), default=0)
    lines = [f"{job.name:{width}}  {_states(job, work, owners)}" for job in jobs]
    counts = {name: sum(stage.stage == name for _, stage in left.values()) for name in STAGES}
    counted = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "none"
    done = sum(job.finished for job in jobs)
    time = estimate((stage for _, stage in left.values()), work, side_by_side)
    hint = "; --estimate tries it" if time == "unknown" else _first_answer(jobs, work, side_by_side)
    return [
        *lines,
        f"{len(jobs)} runs, {done} finished; stages to make: {counted}",
        f"time with {side_by_side} side by side: {time}{hint}",
    ]


def _first_answer(jobs: Sequence[Job], work: Work, side_by_side: int) -> str:
    """When the first seed is whole; empty where there is one alone, or it is whole, or that is not known."""
    seeds = list(dict.fromkeys(job.run.seed for job in jobs))
    first = to_do([job for job in jobs if job.run.seed == seeds[0]], work) if len(seeds) > 1 else {}
    time = estimate((stage for _, stage in first.values()), work, side_by_side)
    return f", a first answer after {time}" if time.startswith("about") else ""


def _states(job: Job, work: Work, owners: dict[str, Job]) -> str:
    if not job.stages:
        return f"cannot run: {job.reason}"
    parts = []
    for stage in job.stages:
        owner = owners.get(stage.fingerprint)
        state = "runs" if owner is job else f"shared with {owner.name}" if owner else "cached"
        parts.append(f"{stage.stage} {state}")
    return "finished" if job.finished else ", ".join(parts)
