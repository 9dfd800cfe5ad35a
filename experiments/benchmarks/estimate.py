"""How good is `table --estimate`? What it foretells of runs that are finished, beside what they took.

    python experiments/benchmarks/estimate.py RECIPE OUT --set data.root=FOLDER --only imagenet-5-seed0 ...

OUT is the folder of the finished table; it is read alone. Nothing else should run meanwhile, nor have run with it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from fnmatch import fnmatchcase
from pathlib import Path

from ssl_defect.artifacts import machine, read_record
from ssl_defect.table.expand import cells_of, runs_of
from ssl_defect.table.planning import Work, jobs_of, to_do
from ssl_defect.table.settings import load_table
from ssl_defect.table.trial import try_stages


def main() -> None:
    """Print a line per stage, how they lie by kind of stage, and the record of the machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--only", action="append", default=[], help="pattern of names of runs; all where left out")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    table, for_runs = load_table(options.recipe, options.settings)
    runs = runs_of(table, cells_of(table, str(options.recipe)), options.recipe, for_runs)
    chosen = [run for run in runs if not options.only or any(fnmatchcase(run.name, one) for one in options.only)]
    jobs, work, start = jobs_of(chosen, options.out), Work(), time.monotonic()
    try_stages(jobs, work, options.jobs)
    print(f"tried in {time.monotonic() - start:.0f} s")
    ratios: dict[str, list[float]] = defaultdict(list)
    for job, stage in to_do(jobs, Work()).values():
        told, record = work.guessed.get(stage.fingerprint), read_record(job.folder / stage.stage)
        if told is None or record is None:
            continue
        print(f"{job.name:30} {stage.stage:9} foretold {told:7.1f} s, took {record.seconds:7.1f} s")
        if record.seconds >= 1:
            ratios[stage.stage].append(told / record.seconds)
    for name, found in ratios.items():
        least, most = min(found), max(found)
        print(f"{name}: {least:.2f} to {most:.2f} times what it took, {len(found)} stages of a second or more")
    print(json.dumps(machine()))


if __name__ == "__main__":
    main()
