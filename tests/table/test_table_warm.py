"""Runs of a table as forks of a process that has its libraries loaded: they behave as started commands do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from ssl_defect.artifacts import code_version
from ssl_defect.table.warm import OWN, Warm, can_warm

MORE = {"OMP_NUM_THREADS": "1"}
needs_forks = pytest.mark.skipif(not can_warm(OWN), reason="runs are forked on Linux alone")

WAITS = """
import sys, time
from pathlib import Path
from ssl_defect.artifacts import code_version
from ssl_defect.table.warm import OWN, Warm
if __name__ == "__main__":
    Warm([*OWN, "run", sys.argv[1], "--out", sys.argv[2]], Path(sys.argv[2], "log.txt"), {})
    time.sleep(600)
"""


def test_only_our_own_commands_are_forked() -> None:
    assert not can_warm([sys.executable, "-c", "pass"])
    assert not can_warm([*OWN[:2], "pytest"])


@needs_forks
def test_output_goes_to_the_log_and_a_mistake_is_an_exit_status(tmp_path: Path) -> None:
    log, before = tmp_path / "log.txt", os.environ.get("OMP_NUM_THREADS")
    log.write_text("earlier\n")
    assert Warm([*OWN, "methods"], log, MORE).wait() == 0
    assert log.read_text().startswith("earlier\n")
    assert "simclr" in log.read_text()
    assert Warm([*OWN, "run", str(tmp_path / "missing.yaml")], log, MORE).wait() == 1
    assert log.read_text().splitlines()[-1].startswith(f"error: {tmp_path / 'missing.yaml'}")
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_forks_know_the_version_of_the_code_that_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = import_module("ssl_defect.table.libraries")

    def edited(path: Path, **more: str) -> str:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(Path, "read_text", edited)
    assert {"sklearn.manifold", "timm", "torchvision.ops"} < set(sys.modules)
    for module in libraries.MODULES:
        assert module in sys.modules
        assert len(code_version(module)) == 16
    with pytest.raises(AssertionError, match="read again"):
        code_version("ssl_defect.cli")  # what no stage imports


def _recipe(folder: Path) -> Path:
    path = folder / "long.yaml"
    path.write_text(
        f"name: long\ndata: {{source: synthetic, root: {folder / 'parts'}, image_size: 32, options: {{good: 20}}}}\n"
        "model: {backbone: test_resnet}\npretrain: {method: simclr, epochs: 100000, batch_size: 8}\n"
    )
    return path


def _at_work(folder: Path) -> None:
    end = time.monotonic() + 240
    while "pretrain: started" not in (log := _text(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    assert "pretrain: started" in log


def _text(folder: Path) -> str:
    return (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""


@needs_forks
def test_a_run_is_ended_when_asked_to(tmp_path: Path) -> None:
    process = Warm([*OWN, "run", str(_recipe(tmp_path)), "--out", str(tmp_path)], tmp_path / "log.txt", MORE)
    _at_work(tmp_path)
    assert process.poll() is None
    process.terminate()
    process.wait()
    assert process.poll() == -signal.SIGTERM


@needs_forks
def test_a_run_outlives_a_killed_table_as_a_started_process_does(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text(WAITS)
    command = [sys.executable, str(script), str(_recipe(tmp_path)), str(tmp_path)]
    with subprocess.Popen(command, start_new_session=True) as table:
        _at_work(tmp_path)
        table.send_signal(signal.SIGKILL)
    said = len(_text(tmp_path))
    end = time.monotonic() + 120
    while len(_text(tmp_path)) <= said and time.monotonic() < end:
        time.sleep(0.1)
    went_on = len(_text(tmp_path)) > said
    os.killpg(table.pid, signal.SIGKILL)
    assert went_on
