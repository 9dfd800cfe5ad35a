"""How long a table may take, tried beforehand: the arithmetic by hand, and the command on drawn parts."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from small_table import BASE, TABLE, write
from typer.testing import CliRunner

from ssl_defect.artifacts import Record, write_record
from ssl_defect.cli import app
from ssl_defect.config import Recipe
from ssl_defect.errors import UserError
from ssl_defect.table import trial as trying
from ssl_defect.table.command import Request, make
from ssl_defect.table.trial import BATCH, Counts, count, foretold

COUNTS = Counts(train=100, good=70, val=30, test=60)


def recipe_of(**more: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(
        {name: BASE[name] | more.get(name, {}) for name in BASE if name != "name"} | {"name": "x"}
    )


def tried(folder: Path, stage: str, seconds: float) -> None:
    record = Record(stage, "f", {}, {}, "code", seconds, 1.0, "2026-01-01T00:00:00Z", "command")
    (folder / stage).mkdir(parents=True)
    write_record(folder / stage, record)


@pytest.mark.parametrize(("method", "images"), [("cutpaste", 70), ("simclr", 100)])  # good ones, and all
def test_pretraining_takes_its_images_over_the_epochs(tmp_path: Path, method: str, images: int) -> None:
    tried(tmp_path, "pretrain", 6.0)
    rows = "epoch,images_per_second,seconds\n1,2.0,3.0\n2,10.0,1.0\n"  # the first one warms up
    (tmp_path / "pretrain" / "history.csv").write_text(rows)
    recipe = recipe_of(pretrain={"method": method, "epochs": 5, "batch_size": 16})
    whole_batches = images // 16 * 16
    assert foretold("pretrain", recipe, COUNTS, tmp_path) == pytest.approx(2 + 5 * whole_batches / 10)


def test_what_the_run_itself_will_refuse_is_no_error_of_the_estimate(tmp_path: Path) -> None:
    tried(tmp_path, "pretrain", 6.0)
    (tmp_path / "pretrain" / "history.csv").write_text("epoch,images_per_second,seconds\n1,10.0,1.0\n")
    recipe = recipe_of(pretrain={"method": "simclr", "batch_size": 128})
    assert foretold("pretrain", recipe, COUNTS, tmp_path) == 5.0


def test_weights_as_they_are_take_what_they_took(tmp_path: Path) -> None:
    tried(tmp_path, "pretrain", 6.0)
    assert foretold("pretrain", recipe_of(pretrain={"method": "imagenet"}), COUNTS, tmp_path) == 6.0


def test_finetuning_takes_every_step_and_look(tmp_path: Path) -> None:
    tried(tmp_path, "finetune", 5.0)
    tried(tmp_path, "evaluate", 2.0)
    (tmp_path / "finetune" / "finetune.json").write_text(json.dumps({"steps": 2, "seconds": 1.6 * BATCH}))  # 0.8 each
    recipe = recipe_of(finetune={"steps": 50, "batch_size": 4, "eval_every": 20})
    once = 5.0 - 1.6 * BATCH
    looks = 3 * 30 / 3
    assert foretold("finetune", recipe, COUNTS, tmp_path) == pytest.approx(once + 0.8 * (50 * 4 + looks))
    assert foretold("evaluate", recipe, COUNTS, tmp_path) == pytest.approx(2.0 + 0.8 * 60 / 3)


def test_preparing_and_fitting_go_by_the_pictures(tmp_path: Path) -> None:
    tried(tmp_path, "prepare", 4.0)  # 96 drawn, 48 of them to train on
    tried(tmp_path, "finetune", 7.0)
    (tmp_path / "finetune" / "finetune.json").write_text(json.dumps({"steps": 0, "seconds": 7.0}))
    assert foretold("prepare", recipe_of(), COUNTS, tmp_path) == pytest.approx(4.0 * 190 / 96)
    recipe = recipe_of().model_copy(update={"anomaly": object()})
    assert foretold("finetune", recipe, COUNTS, tmp_path) == pytest.approx(7.0 * 100 / 48)


def test_images_are_counted_by_the_shares(tmp_path: Path) -> None:
    data = {"root": str(tmp_path / "parts"), "val_share": 0.25, "test_share": 0.5}  # 24 good, 4 of each of four kinds
    assert count(recipe_of(data=data)) == Counts(10, 6, 10, 20)
    assert count(recipe_of(data=data | {"folds": 4})) == Counts(20, 12, 10, 10)
    published = count(recipe_of(data=data | {"protocol": "official"}))
    good = len(list((tmp_path / "parts" / "train" / "good").iterdir()))
    assert published == Counts(0.75 * good, 0.75 * good, 0.25 * good, 40 - good)


def test_an_estimate_of_what_was_never_run(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    recipe, began = write(here), list[str]()
    real = trying.work_off
    monkeypatch.setattr(
        trying, "work_off", lambda jobs, *rest: began.extend(job.name for job in jobs) or real(jobs, *rest)
    )
    make(Request(recipe, here / "out"), dry=True)
    assert "time with" in (told := capsys.readouterr().out)
    assert told.rstrip().endswith("unknown; --estimate tries it")
    assert not began

    done = CliRunner().invoke(app, ["table", str(recipe), "--out", "out", "--estimate"])
    assert done.exit_code == 0, done.output
    assert "stages to make: prepare 1, pretrain 2, finetune 4, evaluate 4" in done.output
    assert "side by side: about " in done.output
    assert "5 kinds of stages are tried" in done.output
    assert began == ["none-2-seed0", "rotation-2-seed0"]  # budgets and seeds are of a kind
    assert sorted(path.name for path in here.iterdir()) == ["parts", "small.yaml"]

    make(Request(recipe, here / "out", only=["none"]))
    began.clear()
    done = CliRunner().invoke(app, ["table", str(recipe), "--out", "out", "--estimate"])
    assert began == ["rotation-2-seed0"]  # all else is known of the runs that are there
    assert "2 finished; stages to make: pretrain 1, finetune 2, evaluate 2" in done.output
    assert "side by side: about " in done.output


def test_detectors_from_good_images_are_tried_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learns = {"labels": {"finetune.labels_per_class": 2}, "good": {"anomaly": {"detector": "gaussian"}}}
    recipe = write(here, matrix={"learns": learns}, baseline={"learns": "labels"}, columns=[])
    make(Request(recipe, here / "out", estimate=True))
    told = capsys.readouterr()
    assert "[2/2] good-seed0: done" in told.err
    assert "side by side: about " in told.out


def test_what_cannot_be_tried_stays_unknown(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "broken.safetensors").write_bytes(b"no weights")
    starts = {"none": {"pretrain.method": "none"}, "broken": {"pretrain.start": "broken.safetensors"}}
    matrix = {"start": starts, "finetune.labels_per_class": TABLE["matrix"]["finetune.labels_per_class"]}
    recipe = write(here, matrix=matrix, baseline={"start": "none"}, settings={"pretrain.method": "rotation"})
    make(Request(recipe, here / "out", estimate=True))
    told = capsys.readouterr().out
    assert "side by side: at least " in told
    assert "(1 of 11 stages unknown)" in told


def test_an_estimate_of_a_wrong_recipe_is_one_line(here: Path) -> None:
    recipe = write(here, settings={"data.source": "folder", "data.root": "nowhere", "data.options": {}})
    with pytest.raises(UserError, match="nowhere does not exist"):
        make(Request(recipe, here / "out", estimate=True))
    assert not (here / "out").exists()
