"""What a short run of a table costs beside its work: as a fork of a process with its libraries loaded, and anew.

    python experiments/benchmarks/tables.py

One table of drawn parts and a small net, once with forks and once with commands of their own, one run at a time. The
first run, which draws, prepares and loads, is told apart.
"""

from __future__ import annotations

import json
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import yaml

from ssl_defect.table import machine
from ssl_defect.table import work as working
from ssl_defect.table.command import Request, make

RUNS = 6
TABLE = {
    "name": "short",
    "base": {
        "data": {"source": "synthetic", "root": "", "image_size": 32, "options": {"good": 20, "defective": 8}},
        "model": {"backbone": "test_resnet"},
        "pretrain": {"method": "none"},
        "finetune": {"task": "classification", "steps": 3, "eval_every": 3},
        "compute": {"threads": 1},
    },
    "matrix": {"finetune.labels_per_class": list(range(1, RUNS + 1))},
    "seeds": 1,
    "html": False,
}


def seconds(folder: Path, forks: bool) -> list[float]:
    """Of each run, from the end of the one before it."""
    recipe = folder / "short.yaml"
    TABLE["base"]["data"]["root"] = str(folder / "parts")  # type: ignore[index]
    recipe.write_text(yaml.safe_dump(TABLE), encoding="utf-8")
    ends: list[float] = [time.monotonic()]
    said = working._said
    real = machine.can_warm
    with (
        patch.object(machine, "can_warm", lambda command: forks and real(command)),
        patch.object(working, "_said", lambda *a: (said(*a), ends.append(time.monotonic()))),
    ):
        make(Request(recipe, folder / f"forks-{forks}", 1))
    return [after - before for before, after in pairwise(ends)]


def main() -> None:
    """Print both rows and the record of the machine."""
    with tempfile.TemporaryDirectory() as place:
        seconds(Path(place), True)  # draws the parts, warms the disk
        for name in ("anew", "forks"):
            folder = Path(place) / name
            folder.mkdir()
            took = seconds(folder, name == "forks")
            rest = sorted(took[1:])
            print(f"{name}: first {took[0]:.1f} s, then {rest[len(rest) // 2]:.1f} s each (median of {len(rest)})")
    from ssl_defect.artifacts import machine as here

    print(json.dumps(here()))


if __name__ == "__main__":
    main()
