"""`ssl-defect which FOLDER`: a table made from what lies in the folder, run, answered, and kept apart from others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from ssl_defect.cli import app
from ssl_defect.errors import UserError
from ssl_defect.table import which as making
from ssl_defect.table.command import Request
from ssl_defect.table.expand import cells_of, runs_of
from ssl_defect.table.settings import load_table
from ssl_defect.table.which import recipe_for, source_of, which

SMALL = (
    "data.image_size=32",
    "data.copies=false",
    "pretrain.epochs=1",
    "pretrain.batch_size=8",
    "finetune.batch_size=4",
    "finetune.options={decoder_width: 8}",
    "evaluate.bootstrap=100",
    "compute={device: cpu, precision: float32, threads: 1}",
    "seeds=1",
)


def parts(root: Path, good: int = 30, scratched: int = 12, masks: bool = True) -> Path:
    """Grey parts, some with a bright scratch."""
    rng = np.random.default_rng(0)
    for kind, count in (("good", good), ("scratch", scratched)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        (root / "masks" / kind).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture, mask = rng.integers(60, 120, (32, 32), np.uint8), np.zeros((32, 32), np.uint8)
            if kind == "scratch":
                x, y = rng.integers(2, 20, 2)
                mask[y : y + 6, x : x + 10] = 255
                picture[mask > 0] = 250
                Image.fromarray(mask).save(root / "masks" / kind / f"{i:03}.png")
            Image.fromarray(picture).save(root / kind / f"{i:03}.png")
    if not masks:
        shutil.rmtree(root / "masks")
    return root


def budgets(recipe: dict[str, Any]) -> list[str]:
    return [name for name in recipe["matrix"]["learns from"] if name.isdecimal()]


def test_the_task_is_what_the_folder_has_labels_for(tmp_path: Path) -> None:
    with_masks, without = parts(tmp_path / "a"), parts(tmp_path / "b", masks=False)
    found = recipe_for(str(with_masks))
    assert found["base"]["finetune"]["task"] == "segmentation"
    assert found["metrics"] == ["pixel ap", "pixel aupro", "image auroc"]
    found = recipe_for(str(without))
    assert found["base"]["finetune"]["task"] == "classification"
    assert found["metrics"] == ["image auroc", "image ap"]
    assert recipe_for(str(with_masks), ["finetune.task=classification"])["metrics"] == ["image auroc", "image ap"]
    (tmp_path / "a" / "good").rename(tmp_path / "a" / "fine")
    assert recipe_for(str(with_masks), ["data.options.good=[fine]"])["base"]["finetune"]["task"] == "segmentation"


@pytest.mark.parametrize(("scratched", "wanted"), [(60, ["5", "10"]), (16, ["5"]), (8, [])])
def test_no_budget_that_is_all_labels_anyway(tmp_path: Path, scratched: int, wanted: list[str]) -> None:
    found = recipe_for(str(parts(tmp_path / "parts", scratched=scratched)))
    assert budgets(found) == wanted
    assert found["average"] == ({"learns from": wanted} if len(wanted) > 1 else {})
    assert "all" in found["matrix"]["learns from"]


@pytest.mark.parametrize("masks", [True, False])
def test_every_run_of_it_is_a_valid_recipe(tmp_path: Path, masks: bool) -> None:
    made = recipe_for(str(parts(tmp_path / "parts", scratched=60, masks=masks)))
    (tmp_path / "which.yaml").write_text(yaml.safe_dump(made))
    table, _ = load_table(tmp_path / "which.yaml")
    runs = runs_of(table, cells_of(table), tmp_path / "which.yaml", {})
    assert len(runs) == 7 * 4 * 3
    assert {run.recipe.pretrain.method for run in runs} >= {"none", "imagenet", "simclr", "defect_seg"}
    assert {run.recipe.pretrain.start for run in runs if run.recipe.pretrain.method != "none"} == {"imagenet"}
    assert sum(run.recipe.anomaly is not None for run in runs) == 7 * 3


def test_layouts_are_told_by_their_folders(tmp_path: Path) -> None:
    for folder in ("mvtec/train", "mvtec/test", "tiles/MT_Free", "plain/good"):
        (tmp_path / folder).mkdir(parents=True)
    assert [source_of(str(tmp_path / name)) for name in ("mvtec", "tiles", "plain", "nowhere")] == [
        "mvtec",
        "magnetic_tile",
        "folder",
        "folder",
    ]
    assert source_of("package:elpv_dataset") == "elpv"


@pytest.mark.parametrize(
    ("empty", "wanted"), [("scratch", "there is no defective picture; .* see docs/anomaly.md"), ("all", "nowhere")]
)
def test_a_folder_that_cannot_answer_is_one_line(tmp_path: Path, empty: str, wanted: str) -> None:
    root = parts(tmp_path / "parts")
    if empty == "scratch":
        shutil.rmtree(root / "scratch")
        shutil.rmtree(root / "masks")
    with pytest.raises(UserError, match=wanted) as found:
        which(str(root if empty == "scratch" else tmp_path / "nowhere"), Request(Path(), tmp_path / "out"))
    assert "\n" not in str(found.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_good_pictures_is_one_line(tmp_path: Path) -> None:
    root = parts(tmp_path / "parts")
    for path in (root / "good").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="there is no good picture"):
        recipe_for(str(root))


def test_other_pictures_than_those_of_the_argument_are_one_line(tmp_path: Path) -> None:
    root = parts(tmp_path / "parts")
    with pytest.raises(UserError, match=r"--set data\.root=other: the folder is the argument"):
        recipe_for(str(root), ["data.root=other"])


def test_segmentation_without_a_mask_is_one_line(tmp_path: Path) -> None:
    root = parts(tmp_path / "parts", masks=False)
    with pytest.raises(UserError, match="no defective picture has a mask, and segmentation learns from masks"):
        recipe_for(str(root), ["finetune.task=segmentation"])


def test_the_same_folder_by_another_name_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "which.yaml").write_text(yaml.safe_dump({"base": {"data": {"root": "parts"}}}))
    making._check_owner(out, str(tmp_path / "parts"))
    with pytest.raises(UserError, match="holds the table of parts"):
        making._check_owner(out, str(tmp_path / "others"))


def test_a_look_that_writes_is_not_one_that_does_not(tmp_path: Path) -> None:
    asked = Request(Path(), tmp_path / "out", settings=SMALL, so_far=True)
    with pytest.raises(UserError, match="--so-far writes a table, and --dry-run and --estimate write nothing"):
        which(str(parts(tmp_path / "parts")), asked, dry=True)


@pytest.mark.slow
def test_one_command_from_a_folder_to_the_answer(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = yaml.safe_load(making.PATTERN.read_text())
    short["base"]["finetune"] |= {"steps": 2, "eval_every": 2}
    (here / "short.yaml").write_text(yaml.safe_dump(short, sort_keys=False))
    monkeypatch.setattr(making, "PATTERN", here / "short.yaml")
    root = parts(here / "our parts", scratched=30)
    only = [
        one
        for name in ("imagenet-5-*", "imagenet-10-*", "defect_seg-10-*", "defect_seg-5-*")
        for one in ("--only", name)
    ]
    settings = [one for text in SMALL for one in ("--set", text)]
    command = ["which", str(root), "--jobs", "1", *only, *settings]
    dry = CliRunner().invoke(app, [*command, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "4 runs, 0 finished" in dry.output
    assert not (here / "reports").exists()

    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    out = here / "reports" / "which_our_parts"
    assert (out / "which.yaml").read_text().startswith("# Written by ssl-defect which ")
    told = json.loads((out / "table.json").read_text())
    assert any("That detector: `ssl-defect predict" in line for line in told["answers"])
    assert "learns from mean of 5, 10" in (out / "comparison" / "index.html").read_text()

    slash = CliRunner().invoke(app, ["which", f"{root}/", "--jobs", "1", *only, *settings])  # as a shell completes it
    assert slash.exit_code == 0, slash.output
    assert "4 runs, 4 finished" in slash.output

    parts(here / "others" / "our parts")
    again = CliRunner().invoke(app, ["which", str(here / "others" / "our parts"), "--out", str(out)])
    assert isinstance(again.exception, UserError)
    assert "give" in str(again.exception)
    assert "another folder with --out" in str(again.exception)

    (out / "which.yaml").write_text("base: 3\n")
    again = CliRunner().invoke(app, ["which", str(root), "--out", str(out)])
    assert isinstance(again.exception, UserError)
    assert "not a recipe that `which` wrote" in str(again.exception)
    assert (out / "which.yaml").read_text() == "base: 3\n"


def test_a_look_at_what_was_never_begun_leaves_nothing(tmp_path: Path) -> None:
    asked = Request(Path(), tmp_path / "out", settings=SMALL, so_far=True)
    with pytest.raises(UserError, match="no run of the table is finished"):
        which(str(parts(tmp_path / "parts")), asked)
    assert not (tmp_path / "out").exists()
