"""A table before its end: of the seeds that are there in every cell, so that each is measured by as much."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ssl_defect.console import say
from ssl_defect.errors import UserError
from ssl_defect.table.answer import STRONG
from ssl_defect.table.planning import Job


def whole_seeds(jobs: Sequence[Job], failed: Collection[str] = ()) -> list[int]:
    """Seeds of which each run is finished, or `failed`, so that no more of it is to come."""
    seeds = dict.fromkeys(job.run.seed for job in jobs if job.finished)
    waited = {job.run.seed for job in jobs if job.name not in failed and not job.finished}
    return [seed for seed in seeds if seed not in waited]


def standing(jobs: Sequence[Job], seeds: Sequence[int]) -> str:
    """The sentence above a table of whole `seeds`, or of all that is finished where there is none; empty at its end."""
    done = sum(job.finished for job in jobs)
    if done == len(jobs):
        return ""
    made = f"of seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}" if seeds else "of no whole seed"
    return (
        f"{STRONG}So far{STRONG}: {made}, with {done} of {len(jobs)} runs finished. It may turn until all are; "
        "intervals and p are not corrected for a look before the end."
    )


class Looks:
    """Calls `write(seeds, failed)` each time that one more seed is whole; what cannot be written is said, no more."""

    def __init__(self, jobs: Sequence[Job], write: Callable[[list[int], dict[str, str]], object]) -> None:
        self._jobs = jobs
        self._write = write
        self._seen = whole_seeds(jobs)

    def __call__(self, failed: dict[str, str]) -> None:
        """Look, after a run has ended."""
        seeds = whole_seeds(self._jobs, failed)
        to_come = [job for job in self._jobs if job.name not in failed and not job.finished]
        if len(seeds) <= len(self._seen) or not to_come:  # the table itself is about to be written
            return
        self._seen = seeds
        try:
            self._write(seeds, failed)
        except UserError as error:
            say(f"table: nothing is written yet: {error}")
