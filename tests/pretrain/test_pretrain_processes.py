"""Pretraining in processes of its own: killed and started again, and shared out over two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import forks
import pytest
import torch
from safetensors.torch import load_file

from ssl_defect.pretrain import METHODS

TRAINED = [name for name, (module, _) in METHODS.items() if module]
HERE = Path(__file__).parent
ALONE = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
ENVIRONMENT = ALONE | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
TIMES = ("images_per_second", "seconds", "seconds_left", "probe_seconds")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def finish(script: Path, *arguments: object) -> None:
    done = forks.run(script, *arguments)
    assert done.returncode == 0, done.stderr


def kill_after(lines: int, script: Path, *arguments: object, mark: str = ": epoch ") -> None:
    """Start, and kill without warning once `lines` epochs have been said; their lines hold `mark`."""
    with forks.Forked(script, *arguments) as forked:
        epochs = (line for line in forked.errors() if mark in line)
        assert len(list(islice(epochs, lines))) == lines, "it ended before it could be killed"
        time.sleep(0.01 * lines)  # a checkpoint may be half written by then, or not begun
        forked.kill()
        assert forked.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_weights(prepared: Path, tmp_path: Path) -> None:
    script, method, backbone = HERE / "killed_stage.py", "simclr", "test_resnet"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(script, prepared, whole, method, backbone)
    kill_after(2, script, prepared, broken, method, backbone)
    kill_after(4, script, prepared, broken, method, backbone)
    finish(script, prepared, broken, method, backbone)
    assert (whole / "encoder.safetensors").read_bytes() == (broken / "encoder.safetensors").read_bytes()
    for name in ("pictures.npz", "snapshots.npz"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in broken.iterdir())
    histories = [(folder / "history.csv").read_text(encoding="utf-8").splitlines() for folder in (whole, broken)]
    columns = [number for number, name in enumerate(histories[0][0].split(",")) if name not in TIMES]
    measured = [[[line.split(",")[number] for number in columns] for line in lines] for lines in histories]
    assert measured[0] == measured[1]


@pytest.fixture(scope="module")
def one_and_two(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one process and what two come to, all methods in turn."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    script = HERE / "two_processes.py"
    finish(script, prepared, one, *TRAINED)
    command = [sys.executable, *TORCHRUN, *map(str, (script, prepared, two, *TRAINED))]
    both = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert both.returncode == 0, both.stderr
    return load_file(one / "result.safetensors"), load_file(two / "result.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_two_processes_learn_what_one_learns(method: str, one_and_two: tuple[dict[str, Any], dict[str, Any]]) -> None:
    alone, together = one_and_two
    names = [name for name in alone if name.startswith(f"{method}/")]
    assert len(alone[f"{method}/losses"]) == 2
    for name in names:
        torch.testing.assert_close(together[name], alone[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
