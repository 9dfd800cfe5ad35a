"""Commands and scripts as forks of a process that has loaded the libraries: as if started, less the seconds of loading.

What must be a start of its own, such as what it imports, is started with `subprocess` instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
CONTEXT.set_forkserver_preload(["ssl_defect.table.libraries"])


class Forked:
    """`ssl-defect ARGUMENTS`, or `python SCRIPT.py ARGUMENTS`, on one thread; `before` is called first, in the fork."""

    def __init__(self, *arguments: object, cwd: Path | None = None, before: Callable[[], None] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp())
        for name in ("stdout", "stderr"):
            (self.folder / name).touch()
        words = [str(word) for word in arguments]
        self.process = CONTEXT.Process(target=_work, args=(words, str(cwd or Path.cwd()), str(self.folder), before))
        self.process.start()

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """Without warning, if it is still at work."""
        self.process.kill()
        self.process.join()

    @property
    def returncode(self) -> int | None:
        """As `Popen` has it."""
        return self.process.exitcode

    def errors(self) -> Iterator[str]:
        """The lines of stderr, as they are written, to the end."""
        with open(self.folder / "stderr", encoding="utf-8") as file:
            begun = ""
            while True:
                ended = self.process.exitcode is not None
                for piece in file:
                    begun += piece
                    if begun.endswith("\n"):
                        yield begun
                        begun = ""
                if ended:
                    return
                time.sleep(0.005)

    def said(self, name: str) -> str:
        """All of `stdout` or `stderr` up to now."""
        return (self.folder / name).read_text(encoding="utf-8")


def run(
    *arguments: object, cwd: Path | None = None, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with the outputs as text; killed after five minutes."""
    with Forked(*arguments, cwd=cwd, before=before) as forked:
        forked.process.join(300)
        assert forked.returncode is not None, f"{arguments} takes more than five minutes"
        outputs = forked.said("stdout"), forked.said("stderr")
        return subprocess.CompletedProcess([str(word) for word in arguments], forked.returncode, *outputs)


def _work(arguments: list[str], cwd: str, outputs: str, before: Callable[[], None] | None) -> None:
    import torch

    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        with open(Path(outputs, name), "ab") as file:
            os.dup2(file.fileno(), number)
        setattr(sys, name, os.fdopen(number, "w", buffering=1, encoding="utf-8"))
    os.chdir(cwd)
    torch.set_num_threads(1)
    if before:
        before()
    if arguments[0].endswith(".py"):
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        from ssl_defect.cli import main

        sys.argv = ["ssl-defect", *arguments]
        main()
