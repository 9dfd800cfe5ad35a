"""Where the runs of a table are worked off: processes on this machine, or whatever else gives the same answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ssl_defect.config import ComputeSettings
from ssl_defect.table.planning import Work
from ssl_defect.table.warm import Warm, can_warm

ROOM_MB = 1500.0  # memory of a process of which nothing is known yet
LOG = "log.txt"


class Process(Protocol):
    """A run on its way, as `subprocess.Popen` has it."""

    def poll(self) -> int | None:
        """Its exit status; None while it works; below 0 the signal that ended it."""

    def terminate(self) -> None:
        """Ask it to end."""

    def wait(self) -> int:
        """Its exit status, once it has ended."""


class Place(Protocol):
    """Gives processes."""

    def places(self, work: Work) -> int:
        """How many runs go side by side."""

    def room(self, work: Work) -> bool:
        """Whether one more may start beside others."""

    def threads(self, side_by_side: int) -> int:
        """Of a run whose recipe does not say."""

    def start(self, command: Sequence[str], folder: Path, more: Mapping[str, str], needs: ComputeSettings) -> Process:
        """Begin `command`, whose output goes to the log in `folder`, with `more` in its environment."""


class ThisMachine:
    """Processes of this machine."""

    def places(self, work: Work) -> int:
        """As many as cores and memory allow, and one on a graphics card."""
        import torch

        if torch.cuda.is_available():
            return 1
        room = free_mb() / max(ROOM_MB, work.peak_mb)
        return max(1, min(cores(), int(min(room, 1e6))))

    def room(self, work: Work) -> bool:
        """Whether there is memory for one more."""
        return free_mb() > max(ROOM_MB, work.peak_mb)

    def threads(self, side_by_side: int) -> int:
        """The cores are shared out."""
        return max(1, cores() // side_by_side)

    def start(self, command: Sequence[str], folder: Path, more: Mapping[str, str], needs: ComputeSettings) -> Process:
        """A child of this process; one of our own commands as a fork of one that has loaded its libraries."""
        if can_warm(command):
            return Warm(command, folder / LOG, more)
        with (folder / LOG).open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | dict(more)
            )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_mb() -> float:
    """Memory that can be had now, in MiB; infinite where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable")), None)
    return float(found) / 1024 if found else float("inf")
