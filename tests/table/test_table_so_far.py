"""A table before its end: of whole seeds, written as they come and when asked for, and not mistaken for the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pretended import job, pretend  # noqa: F401 - a fixture
from small_table import TABLE, write
from typer.testing import CliRunner

from ssl_defect import pipeline
from ssl_defect.cli import app
from ssl_defect.errors import UserError
from ssl_defect.table import command
from ssl_defect.table.command import Request, make
from ssl_defect.table.planning import Job, read_work
from ssl_defect.table.so_far import Looks, standing, whole_seeds
from ssl_defect.table.work import work_off

SMALL: dict[str, Any] = {
    "matrix": TABLE["matrix"] | {"finetune.labels_per_class": [2]},
    "seeds": 2,
    "html": False,
    "metrics": ["image auroc"],
}


def table_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "table.json").read_text())
    return found


def made(out: Path, jobs: list[Job], names: list[str]) -> None:
    assert work_off([one for one in jobs if one.name in names], out, read_work(out), 1) == {}


@pytest.mark.usefixtures("pretend")
def test_a_seed_is_whole_when_nothing_of_it_is_to_come(tmp_path: Path) -> None:
    jobs = [job(tmp_path, method, seed) for seed in (0, 1) for method in ("mae", "moco")]
    assert whole_seeds(jobs) == []
    made(tmp_path, jobs, ["mae-seed0", "mae-seed1"])
    assert whole_seeds(jobs) == []
    assert whole_seeds(jobs, {"moco-seed1"}) == [1]  # it failed
    assert standing(jobs, []).startswith("**So far**: of no whole seed, with 2 of 4 runs finished.")
    made(tmp_path, jobs, ["moco-seed0"])
    assert whole_seeds(jobs) == [0]
    assert standing(jobs, [0]).startswith("**So far**: of seed 0, with 3 of 4 runs finished.")
    made(tmp_path, jobs, ["moco-seed1"])
    assert whole_seeds(jobs) == [0, 1]
    assert standing(jobs, [0, 1]) == ""


@pytest.mark.usefixtures("pretend")
def test_a_look_is_taken_once_for_each_seed_and_never_ends_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [job(tmp_path, method, seed) for seed in (0, 1, 2) for method in ("mae", "moco")]
    seen: list[list[int]] = []

    def write(seeds: list[int], failed: dict[str, str]) -> None:
        seen.append(seeds)
        if len(seen) == 2:
            raise UserError("the disk is full")

    assert work_off(jobs, tmp_path, read_work(tmp_path), 1, look=Looks(jobs, write)) == {}
    assert seen == [[0], [0, 1]]  # the last seed is the whole table
    assert "table: nothing is written yet: the disk is full" in capsys.readouterr().err
    assert all(one.finished for one in jobs)


def test_the_table_is_written_of_each_whole_seed_on_the_way(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[dict[str, Any]] = []
    real = command.write_all
    monkeypatch.setattr(command, "write_all", lambda *a: [*real(*a), before.append(table_of(here / "out"))][:-1])
    make(Request(write(here, **SMALL), here / "out", 1))
    first, last = before
    assert first["answers"][0].startswith("So far: of seed 0, with 2 of 4 runs finished.")
    assert [row["seeds"] for row in first["results"]] == [1, 1]
    assert not [note for note in first["notes"] if "seeds are finished" in note]  # said once, above
    assert [row["seeds"] for row in last["results"]] == [2, 2]
    assert "So far" not in str(last)
    assert capsys.readouterr().err.count("table: So far: of seed 0") == 1


def test_what_is_finished_can_be_seen_without_running_more(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = write(here, **SMALL), here / "out"
    asked = ["table", str(recipe), "--out", str(out), "--so-far"]
    nothing = CliRunner().invoke(app, asked)
    assert isinstance(nothing.exception, UserError)
    assert "no run of the table is finished" in str(nothing.exception)
    assert not out.exists()
    make(Request(recipe, out, 1, only=["*-seed0"]))
    alone = table_of(out)["results"]
    assert "So far" not in str(table_of(out)["answers"])  # all that was asked for is there
    monkeypatch.setattr(pipeline, "run", lambda *a, **k: pytest.fail("it runs"))
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert table_of(out)["answers"][0].startswith("So far: of seed 0, with 2 of 4 runs finished.")
    assert table_of(out)["results"] == [row | {"reason": ""} for row in alone]
    assert not (out / "none-2-seed1").exists()


def test_an_interrupted_table_says_how_to_see_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "work_off", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(Request(write(here, **SMALL), here / "out", 1))
    assert "0 of 4 runs are finished: --so-far has their table" in capsys.readouterr().err
