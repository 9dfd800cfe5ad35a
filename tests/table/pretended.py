"""Runs for `pretend_run.py`, which only pretends to work, and what their diary says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ssl_defect.config import Recipe
from ssl_defect.fingerprints import Plan
from ssl_defect.table import work as working
from ssl_defect.table.expand import Cell, Run
from ssl_defect.table.planning import Job

HERE = Path(__file__).parent
STAGES = ("prepare", "pretrain", "finetune", "evaluate")


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, str(HERE / "pretend_run.py")]
    monkeypatch.setattr(working, "command_of", lambda folder, last: [*command, str(folder)])
    monkeypatch.setattr(working, "PAUSE", 0.02)


def job(out: Path, method: str, seed: int, seconds: float = 0.0, **broken: dict[str, Any]) -> Job:
    """A run of `method`: seeds share preparing and pretraining; `broken` has settings of a stage that goes wrong."""
    name, above, stages = f"{method}-seed{seed}", "", []
    for stage, own in zip(STAGES, ("", method, f"{method} {seed}", f"{method} {seed}"), strict=True):
        settings = {"method": method, "seed": seed, **broken.get(stage, {})} if own else {}
        stages.append(Plan(stage, {"own": own, **settings}, {"above": above}, ""))
        if stage == "pretrain":
            stages[-1].settings.pop("seed")
        above = stages[-1].fingerprint
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps([[s.stage, s.fingerprint, s.settings, seconds] for s in stages]))
    recipe = Recipe.model_validate({"name": name, "seed": seed, "data": {"source": "synthetic", "root": "x"}})
    return Job(Run(name, Cell({"method": method}, method, {}), seed, recipe), folder, tuple(stages))


def diary(out: Path) -> list[str]:
    return (out / "diary.txt").read_text().splitlines() if (out / "diary.txt").exists() else []


def begun(out: Path) -> list[str]:
    return [line.removeprefix("begin ") for line in diary(out) if line.startswith("begin")]
