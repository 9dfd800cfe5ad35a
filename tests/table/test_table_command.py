"""`ssl-defect table` on drawn parts: what is shared is made once, what failed is shown, a dry run runs nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from small_table import BASE, TABLE, write
from typer.testing import CliRunner

from ssl_defect import pipeline
from ssl_defect.cli import app
from ssl_defect.errors import UserError
from ssl_defect.table.command import Request, make
from ssl_defect.table.expand import cells_of, runs_of
from ssl_defect.table.settings import load_table

RECIPES = sorted((Path(__file__).resolve().parents[2] / "experiments" / "tables").glob("*.yaml"))


def test_two_by_two(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write(here)
    assert make(Request(recipe, here / "out"), dry=True) == []
    assert "stages to make: prepare 1, pretrain 2, finetune 4, evaluate 4" in capsys.readouterr().out
    assert not (here / "out").exists()

    outcomes: list[dict[str, str]] = []
    real = pipeline.run
    monkeypatch.setattr(pipeline, "run", lambda *a, **k: outcomes.append(real(*a, **k)) or outcomes[-1])
    done = CliRunner().invoke(app, ["table", str(recipe), "--out", str(here / "out"), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    ran = {stage: sum(one[stage] == "ran" for one in outcomes) for stage in outcomes[0]}
    assert ran == {"prepare": 1, "pretrain": 2, "finetune": 4, "evaluate": 4}
    written = {path.name for path in (here / "out").glob("*.*")}
    assert {"table.md", "table.csv", "table.tex", "table.json"} <= written
    page = (here / "out" / "comparison" / "index.html").read_text()
    for budget in ("2", "all"):
        row = f'<th scope="row"><span>rotation-{budget}-seed0</span></th><td><span>none-{budget}-seed0</span></td>'
        assert row in page.replace("<wbr>", "")
    assert "Best by Image AUROC first." in page  # the table's first metric
    assert ">labels per class</text>" in (here / "out" / "differences-image_auroc.svg").read_text()
    rows = json.loads((here / "out" / "table.json").read_text())["results"]
    assert len(rows) == 8
    for row in rows:
        run = here / "out" / f"{row['pretrain.method']}-{row['finetune.labels_per_class']}-seed0"
        level, name = row["metric"].split()
        told = json.loads((run / "evaluate" / "metrics.json").read_text())
        assert row["mean"] == told[level][name]["value"]
        assert row["seeds"] == 1
    text = (here / "out" / "table.md").read_text()
    assert "| method | labels per class 2 | labels per class all |" in text
    assert f"Splits: {told['protocol']['split_digest']} (by group; 12 test images" in text
    assert "- Test labels are opened by `evaluate` alone: 4 times by 4 runs, once each." in text

    outcomes.clear()
    (here / "out" / "differences-pixel_iou.svg").write_text("of another recipe")
    make(Request(recipe, here / "out", 1))
    assert outcomes == []
    assert {path.name for path in (here / "out").glob("differences-*.svg")} == {
        path.name for path in (here / "out").glob("*.svg") if "pixel_iou" not in path.name
    }
    assert (here / "out" / "table.md").read_text() == text


def test_on_validation_alone_no_test_label_is_opened(here: Path) -> None:
    recipe = write(here, metrics=["validation"])
    make(Request(recipe, here / "out", 1))
    assert not list((here / "out").glob("*/evaluate"))
    assert not (here / "out" / "comparison").exists()
    rows = json.loads((here / "out" / "table.json").read_text())["results"]
    for row in rows:
        run = here / "out" / f"{row['pretrain.method']}-{row['finetune.labels_per_class']}-seed0"
        told = json.loads((run / "finetune" / "finetune.json").read_text())
        assert (row["mean"], row["low"], row["p"]) == (told["best_validation"], None, None)
    values = {(row["pretrain.method"], row["finetune.labels_per_class"]): row for row in rows}
    wanted = values["rotation", "2"]["mean"] - values["none", "2"]["mean"]
    assert values["rotation", "2"]["difference"] == wanted
    assert not any(row["verdict"] or row["winner"] for row in rows)
    text = (here / "out" / "table.md").read_text()
    assert "No test label was opened." in text
    counts = json.loads((run / "prepare" / "audit.json").read_text())["splits"]["val"]
    total, good = sum(counts.values()), counts["good"]
    assert f"(by group; {total} validation images, {total - good} defective)" in text
    assert "ssl-defect predict" not in text

    make(Request(write(here, metrics=["validation", "image auroc"]), here / "out", 1))
    both = json.loads((here / "out" / "table.json").read_text())["results"]
    assert [row["mean"] for row in both if row["metric"] == "validation"] == [row["mean"] for row in rows]
    assert all(row["low"] is not None for row in both if row["metric"] == "image auroc")


def test_folds_test_every_picture_once(here: Path) -> None:
    more = {"matrix": {"pretrain.method": ["none", "rotation"]}, "columns": [], "folds": 2, "metrics": ["image auroc"]}
    base = BASE | {"data": BASE["data"] | {"folds": 0, "fold": 0}}  # type: ignore[operator]  # as a run writes it
    recipe, out = write(here, **more, base=base), here / "out"
    make(Request(recipe, out, 1, only=["*-fold1-*"]))
    left_out = (
        "- Not finished, and left out above: none; rotation.\n"  # a seed counts when it is finished on every fold
    )
    assert left_out in (out / "table.md").read_text()
    make(Request(recipe, out, 1))
    for method in ("none", "rotation"):
        runs = [out / f"{method}-fold{fold}-seed0" / "evaluate" for fold in (1, 2)]
        rows = [row for run in runs for row in csv.DictReader((run / "predictions.csv").read_text().splitlines())]
        tested = [row["image"] for row in rows if row["split"] == "test"]
        assert len(tested) == len(set(tested)) == 24 + 4 * 4
        each = [json.loads((run / "metrics.json").read_text())["image"]["auroc"]["value"] for run in runs]
        (row,) = [one for one in json.loads((out / "table.json").read_text())["results"] if method in one.values()]
        assert row["mean"] == pytest.approx(sum(each) / 2)
        assert row["low"] < row["mean"] < row["high"]
        assert row["seeds"] == 1
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    text = (out / "table.md").read_text()
    assert "over n seeds, each the mean over 2 folds, of which every one is tested once (95% interval" in text
    assert text.count("(by group; ") == 2
    assert "`--set folds=0` and another `--out`" in text


def test_folds_are_asked_of_the_table_alone(here: Path) -> None:
    recipe = write(here, folds=2, settings={"data.folds": 3})
    with pytest.raises(UserError, match=r"data.folds: the table divides the pictures by its `folds`"):
        make(Request(recipe, here / "out"))
    with pytest.raises(UserError, match="folds: give at least 2 folds, or 0"):
        make(Request(write(here, folds=1), here / "out"))


def test_pictures_are_read_once_for_all_runs_over_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        "ssl_defect.data.prepare.inputs_digest", lambda recipe: read.append(recipe.data.root) or recipe.data.root
    )
    make(Request(write(here, seeds=5), here / "out"), dry=True)
    assert read == ["parts"]
    sets = {name: {"data.root": name} for name in ("one", "other")}
    make(Request(write(here, seeds=5, matrix=TABLE["matrix"] | {"set": sets}), here / "out"), dry=True)
    assert read == ["parts", "one", "other"]


def test_a_failed_cell_is_shown_and_only_chooses(here: Path) -> None:
    groups = {
        "none": {"pretrain.method": "none"},
        "broken": {"pretrain.method": "none", "pretrain.start": "imagenet"},
        "elsewhere": {"data.root": "parts2", "data.options": {"good": 30, "defective": 4, "size": 32}},
        "missing": {"data.source": "folder", "data.root": "nowhere", "data.options": {}},
    }
    more = {"baseline": {"start": "none"}, "columns": [], "html": False, "metrics": ["image auroc"]}
    base = BASE | {"pretrain": {"method": "none"}}
    recipe = write(here, base=base, matrix={"start": groups}, **more)
    with pytest.raises(UserError, match=r"--only mae: no run is named so; give a value \(none, broken"):
        make(Request(recipe, here / "out", only=["mae"]))
    make(Request(recipe, here / "out", 1, only=["none", "missing"]))
    text = (here / "out" / "table.md").read_text()
    assert "| broken |" not in text
    assert "- Not finished, and left out above: broken; elsewhere.\n" in text
    assert "| missing | failed |" in text
    assert "- failed: missing: seed 0: data.root: nowhere does not exist" in text
    make(Request(recipe, here / "out", 1))
    text = (here / "out" / "table.md").read_text()
    assert "| broken | failed |" in text
    assert "| elsewhere | - (not tested on the same images) |" in text


def test_a_table_of_which_nothing_can_run_is_one_line(here: Path) -> None:
    recipe = write(here, settings={"data.source": "folder", "data.root": "nowhere", "data.options": {}})
    done = CliRunner().invoke(app, ["table", str(recipe), "--out", "out"])
    assert isinstance(done.exception, UserError)
    assert "nowhere" in str(done.exception)
    assert not (here / "out" / "table.md").exists()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_published_tables_expand(path: Path) -> None:
    table, for_runs = load_table(path)
    runs = runs_of(table, cells_of(table), path, for_runs)
    assert table.name == path.stem
    assert len({run.name for run in runs}) == len(runs) > 5
    ours = path.stem.startswith(
        ("which_pretraining", "choosing", "confirming", "leak", "longer", "good_images", "from_scratch")
    )
    assert table.published or ours
    assert all(any(word in block.source for word in ("arXiv", "CVPR", "README")) for block in table.published)


def test_there_are_recipes_of_published_tables() -> None:
    wanted = {
        "cutpaste_table1",
        "patchcore_magnetic_tile",
        "patchcore_mvtec",
        "spot_the_difference",
        "frozen_encoders_mvtec",
    }
    assert wanted <= {path.stem for path in RECIPES}
