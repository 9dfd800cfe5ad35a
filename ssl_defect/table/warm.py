"""Runs of a table without the seconds that libraries take to load: forks of one process that has loaded them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

OWN = (sys.executable, "-m", "ssl_defect.cli")


def can_warm(command: Sequence[str]) -> bool:
    """Whether `command` is one of ours, and this system bears forks: Windows has none, macOS's libraries break."""
    return tuple(command[:3]) == OWN and sys.platform == "linux"


class Warm:
    """`python -m ssl_defect.cli ...` in a fork, as `subprocess.Popen` has it.

    The first one starts the process that is forked, with the environment of that moment: threads of libraries that
    count them as they load are those of the first run.
    """

    def __init__(self, command: Sequence[str], log: Path, more: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["ssl_defect.table.libraries"])
        before = {name: os.environ.get(name) for name in more}
        os.environ.update(more)
        try:
            self.process = context.Process(target=_run, args=(list(command[3:]), str(log), dict(more)))
            self.process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def poll(self) -> int | None:
        """As of `Popen`."""
        return self.process.exitcode

    def terminate(self) -> None:
        """As of `Popen`."""
        self.process.terminate()

    def wait(self) -> int:
        """As of `Popen`."""
        self.process.join()
        return int(self.process.exitcode or 0)


def _run(arguments: list[str], log: str, more: dict[str, str]) -> None:
    """In the fork: nothing to read, both outputs to the log, then the command line as if it had been called."""
    with open(os.devnull, "rb") as nothing, open(log, "ab") as file:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(more)
    module = import_module(OWN[2])
    sys.argv = [str(module.__file__), *arguments]
    module.main()
