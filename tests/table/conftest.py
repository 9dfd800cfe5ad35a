"""What several tests of tables share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ssl_defect import pipeline
from ssl_defect.config import load_recipe
from ssl_defect.errors import UserError
from ssl_defect.table import machine
from ssl_defect.table import work as working


class InThisProcess:
    """Stands in for a process: the run is done at once, by the pipeline as it is; a process would import torch anew."""

    def __init__(self, command: Sequence[str]) -> None:
        self.returncode, folder = 0, Path(command[6])
        try:
            pipeline.run(load_recipe(folder / "recipe.yaml"), folder, last=command[-1])
        except UserError as error:
            (folder / "log.txt").write_text(f"error: {error}\n")
            self.returncode = 1

    def poll(self) -> int:
        return self.returncode


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(working, "PAUSE", 0.0)
    monkeypatch.setattr(machine, "can_warm", lambda command: True)
    monkeypatch.setattr(machine, "Warm", lambda command, log, more: InThisProcess(command))
    return tmp_path
