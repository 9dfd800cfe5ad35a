"""A run's process as `table.work` starts it, without the work: sleeps, writes records, keeps a diary, fails if told.

`plan.json` in the folder has the stages: [stage, fingerprint, settings, inputs, code, seconds]. A stage whose settings
have `fail` is refused with that line, one with `kill` ends its process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from filelock import FileLock

from ssl_defect.artifacts import Record, publish, read_record, take_over, write_record


def work(folder: Path) -> None:
    with FileLock(folder / ".lock", timeout=0):
        for name, fingerprint, settings, seconds in json.loads((folder / "plan.json").read_text()):
            same = [
                path.parent
                for path in folder.parent.glob(f"*/{name}/record.json")
                if (record := read_record(path.parent)) and record.fingerprint == fingerprint
            ]
            if folder / name in same:
                continue
            if same:
                take_over(same[0], folder / name)
                continue
            diary(folder, f"begin {fingerprint}")
            time.sleep(seconds)
            if settings.get("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if settings.get("fail"):
                sys.exit(f"error: {settings['fail']}")
            partial = folder / f"{name}.partial"
            partial.mkdir(exist_ok=True)
            (partial / "made.txt").write_text(name)
            write_record(partial, Record(name, fingerprint, settings, {}, "", seconds, 1.0, "", ""))
            diary(folder, f"end {fingerprint}")
            publish(partial, folder / name)


def diary(folder: Path, line: str) -> None:
    with (folder.parent / "diary.txt").open("a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
