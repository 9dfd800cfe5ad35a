"""Runs of a table as tasks of a Ray cluster (the extra `ray`): each starts the very command that a local run starts.

Resumption and failure are those of this machine: a task is never tried again by Ray, what it left is gone on with by
the same command, and its log in the run's folder says why it failed. So the folders must be on a path that all
machines share, and all must have this version of ssl-defect.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_defect.config import ComputeSettings
from ssl_defect.console import say
from ssl_defect.errors import UserError
from ssl_defect.table.machine import LOG, Process
from ssl_defect.table.planning import Work

SHARED = "the folder of the command, the pictures and --out must be on a path that all machines of the cluster share"
SMALLEST_STORE = 100 * 2**20  # bytes; no objects but exit statuses are passed
PAUSE = 0.1  # seconds between two looks at a process
PATIENCE = 30.0  # seconds that a cancelled task may take to end its process


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """Join the cluster at `address`: `local` starts one on this machine for as long as the block lasts.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray: Ray is not installed; run: pip install 'ssl-defect[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use to its makers unless told not to
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default: says so at every task else
    joined = ray.is_initialized()
    here: dict[str, Any] = {"include_dashboard": False, "object_store_memory": SMALLEST_STORE}
    try:
        if not joined:
            ray.init(
                address=address, log_to_driver=False, logging_level="error", **(here if address == "local" else {})
            )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--ray {address}: {reason}; give local, auto, or the address of a cluster") from error
    try:
        yield Cluster(ray)
    finally:
        if not joined:
            ray.shutdown()


class Cluster:
    """Tasks of a cluster that was joined. A run takes `compute.threads` cores, 1 where that is not set."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        total = ray.cluster_resources()
        self.cores, self.cards = int(total.get("CPU", 0)), int(total.get("GPU", 0))
        self.most = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)
        say(f"Ray: {self.cores} cores, {self.cards} graphics cards; {SHARED}")

    def places(self, work: Work) -> int:
        """One for each graphics card, else for each core; Ray itself lets those wait that ask for more."""
        return max(1, self.cards or self.cores)

    def room(self, work: Work) -> bool:
        """Ray places what is started."""
        return True

    def threads(self, side_by_side: int) -> int:
        """One: Ray counts cores, and the recipe may ask for more."""
        return 1

    def start(self, command: Sequence[str], folder: Path, more: Mapping[str, str], needs: ComputeSettings) -> Process:
        """A task that waits for its process.

        Raises:
            UserError: no machine has so many cores.
        """
        if needs.threads > self.most:
            what = f"more than any machine of the cluster has; take {self.most} or less"
            raise UserError(f"compute.threads: {needs.threads} is {what}")
        cards = needs.devices if self.cards and needs.device != "cpu" else 0
        task = self.ray.remote(num_cpus=needs.threads, num_gpus=cards, max_retries=0)(_work)
        place = folder.absolute()
        return _Task(self.ray, task.remote(list(command), str(place), str(Path.cwd()), dict(more)), place)


def _work(command: list[str], folder: str, home: str, more: dict[str, str]) -> int:
    """On a machine of the cluster: the command by its own Python; its exit status."""
    for place in (folder, home):
        if not Path(place).is_dir():
            raise FileNotFoundError(f"{place} is not on this machine of the cluster; {SHARED}")
    if threading.current_thread() is threading.main_thread():
        # Ray cancels by an interrupt, which what was started in the background of a shell ignores
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with (Path(folder) / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command[1:]],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | more,
        )
    try:
        while process.poll() is None:  # a cancelled task is interrupted between two looks, never within a long wait
            time.sleep(PAUSE)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return process.wait()


class _Task:
    """A task, as a process."""

    def __init__(self, ray: Any, reference: Any, folder: Path) -> None:
        self.ray, self.reference, self.folder = ray, reference, folder
        self.code: int | None = None

    def poll(self) -> int | None:
        """As of a process; 1 where the task itself failed, with the reason in the log."""
        if self.code is None and self.ray.wait([self.reference], timeout=0)[0]:
            try:
                self.code = int(self.ray.get(self.reference))
            except Exception as error:  # whatever befell the task, the machine or the network: this run failed
                self.code = 1
                why = getattr(error, "cause", None) or error
                with (self.folder / LOG).open("a", encoding="utf-8") as log:
                    log.write(f"error: Ray: {str(why).strip().splitlines()[0]}\n")
        return self.code

    def terminate(self) -> None:
        """Cancel it."""
        self.ray.cancel(self.reference)

    def wait(self) -> int:
        """As of a process; 1 where it does not end in time."""
        self.ray.wait([self.reference], timeout=PATIENCE)
        code = self.poll()
        return 1 if code is None else code
