"""The scripts of experiments/ on settings so small that their numbers mean nothing: they start, go on and end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import forks
import numpy as np
import pytest
from PIL import Image

from ssl_defect.artifacts import read_json

SCRIPTS = Path(__file__).resolve().parents[1] / "experiments"


def start(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    done = forks.run(SCRIPTS / script, *options)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def drawn_parts(folder: Path) -> list[str]:
    """Options that make a script of cells work on a few drawn parts."""
    settings = [f"data.root={folder / 'parts'}", "data.options={good: 24, defective: 4, size: 32}"]
    settings += ["data.copies=false", "pretrain.batch_size=8", "compute.precision=float32"]
    options = ["--recipe", str(SCRIPTS / "synthetic.yaml"), "--out", str(folder / "out")]
    options += ["--methods", "simclr", "--seeds", "1", "--size", "32", "--epochs", "1", "--jobs", "2"]
    return [*options, *(text for setting in settings for text in ("--set", setting))]


@pytest.mark.slow
def test_learning_goes_on_and_shows_the_curve_of_what_does_not_learn(tmp_path: Path) -> None:
    first = start("learning.py", *drawn_parts(tmp_path))
    assert "0 cells are finished, 2 to go" in first.stderr
    again = start("learning.py", *drawn_parts(tmp_path))
    assert "2 cells are finished, 0 to go" in again.stderr
    assert again.stdout == first.stdout
    untrained, simclr = read_json(tmp_path / "out" / "learning.json")["rows"]
    assert (untrained["method"], simclr["method"], simclr["seeds"]) == ("none", "simclr", [0])
    assert not simclr["learns"]  # one seed has no spread to be outside of
    assert simclr["knn_margin"]["margin"] == pytest.approx(simclr["knn"][0] - untrained["knn"][0])
    assert (tmp_path / "out" / "curves.svg").exists()


@pytest.mark.slow
def test_beside_lightly_both_sides_are_probed(tmp_path: Path) -> None:
    shown = start("beside_lightly.py", *drawn_parts(tmp_path)).stdout
    (row,) = read_json(tmp_path / "out" / "beside_lightly.json")["rows"]
    assert len(row["lightly"]) == len(row["ours"]) == 1
    assert row["lightly"][0]["images_per_second"] > 0
    assert "one seed says nothing" in shown


@pytest.mark.slow
def test_the_loop_is_measured_term_by_term() -> None:
    small = ["--size", "32", "--batch", "8", "--rounds", "2", "--steps", "1", "--threads", "1"]
    shown = start("benchmarks/loop.py", "--only", "simclr,mae", *small).stdout
    rows = json.loads(shown[shown.index("{") :])["rows"]
    assert [row["method"] for row in rows] == ["simclr", "mae"]
    assert all(row[f"{term}_ms"] > 0 for row in rows for term in ("bare", "loop", "views", "gathering", "clipping"))
    assert len(rows[0]["memory_mib"]) == 3  # the first turn warms up
    assert sum(line.startswith("| `") for line in shown.splitlines()) == 2


@pytest.mark.slow
def test_depthwise_convolutions_are_timed_on_both_sides() -> None:
    shown = start("benchmarks/depthwise.py", "--backbones", "test_convnext", "--rounds", "1").stdout
    found = json.loads(shown[shown.index("{") :])["found"]
    assert all(len(one["ms"][side]) == 1 and one["ms"][side][0] > 0 for one in found for side in ("torch", "ours"))
    apart = [float(line.split("|")[-2]) for line in shown.splitlines() if line.startswith("| `")]
    assert len(apart) == len(found) == 6
    assert max(apart) < 1e-3


@pytest.mark.slow
def test_recipes_of_lightly_are_timed() -> None:
    small = ["--size", "32", "--batch", "8", "--rounds", "1", "--steps", "1", "--warm", "1", "--threads", "1"]
    shown = start("benchmarks/lightly_recipes.py", "--only", "byol", "--images", "64", "--workers", "1", *small).stdout
    (row,) = json.loads(shown[shown.index("{") :])["rows"]
    assert set(row["pictures_per_second"]) >= {"lightly", "ssl-defect, float32"}
    assert all(rate > 0 for rate in row["pictures_per_second"].values())


def small(folder: Path, *settings: str) -> list[str]:
    """Options of a script that takes a recipe and --set: one seed, one epoch, pictures of 32 pixels."""
    every = ["data.image_size=32", "pretrain.epochs=1", "pretrain.batch_size=8", "pretrain.snapshots=0", *settings]
    options = ["--out", str(folder / "out"), "--seeds", "1", "--jobs", "2"]
    return [*options, *(text for setting in every for text in ("--set", setting))]


@pytest.mark.slow
def test_groups_are_compared_within_a_method(tmp_path: Path) -> None:
    drawn = [f"data.root={tmp_path / 'parts'}", "data.options={good: 24, defective: 6, size: 32}"]
    settings = ["model.backbone=test_resnet", "finetune.steps=2", "finetune.eval_every=2", "evaluate.bootstrap=100"]
    settings += ["finetune.labels_per_class=2", "finetune.batch_size=4", "evaluate.embeddings=false"]
    command = [str(SCRIPTS / "synthetic.yaml"), "--methods", "simclr", "--finetune"]
    shown = start("groups.py", *command, *small(tmp_path, *drawn, *settings)).stdout
    rows = [[cell.strip() for cell in line.split("|")] for line in shown.splitlines() if line.startswith("| `")]
    assert [row[1:3] for row in rows] == [["`none`", ""]] + [
        ["`simclr`", use] for use in ("ignore", "mask", "positives")
    ]
    found, tuned = read_json(tmp_path / "out" / "groups.json")["rows"]
    assert {name.removesuffix("-finetune") for name in tuned} == set(found)
    margin = found["simclr-mask-0"]["knn"] - found["simclr-ignore-0"]["knn"]
    assert rows[2][4] == f"{margin:+.3f}"
    assert all(0 <= cell["image auroc"] <= 1 for cell in tuned.values())


@pytest.mark.slow
def test_the_cutpaste_table_stands_beside_the_paper(tmp_path: Path) -> None:
    screw = write_category(tmp_path / "screw")
    command = ["--rows", "untrained,cutout", "--size", "32", "--epochs", "1", "--batch", "8"]
    shown = start("cutpaste_table.py", *command, *small(tmp_path, f"data.root={screw}")).stdout
    untrained, cutout = read_json(tmp_path / "out" / "cutpaste_table.json")["rows"].values()
    assert (untrained["good_images"], untrained["test_images"], untrained["defective_test_images"]) == (20, 8, 4)
    assert f"| cutout | {100 * cutout['auroc']:.1f} | 17.6 ± 4.4 |" in shown
    assert "20 good training images" in shown


def write_category(folder: Path) -> Path:
    """A category in the folders of MVTec AD: noise, and noise with a bright square."""
    draw = np.random.default_rng(0)
    for place, count in (("train/good", 20), ("test/good", 4), ("test/bent", 4)):
        (folder / place).mkdir(parents=True)
        for number in range(count):
            picture = draw.normal(120, 20, (40, 40))
            picture[10:20, 10:20] += 100 * (place == "test/bent")
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / place / f"{number:03}.png")
    (folder / "ground_truth" / "bent").mkdir(parents=True)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 255
    for number in range(4):
        Image.fromarray(mask).save(folder / "ground_truth" / "bent" / f"{number:03}_mask.png")
    return folder


@pytest.mark.slow
def test_the_table_of_tasks_goes_on_past_a_failed_row(tmp_path: Path) -> None:
    root = write_category(tmp_path / "screw")
    every = ["data.source=mvtec", "data.test_share=0.4", "data.val_share=0.3", "finetune.eval_every=2"]
    every += ["evaluate.bootstrap=100", "report.pictures=1", "data.copies=false"]
    command = ["--root", f"magnetic_tile={root}", "--only", "regression", "--backbone", "test_resnet", "--size", "32"]
    command += ["--steps", "2", "--out", str(tmp_path / "out"), "--jobs", "2"]
    settings = [text for setting in every for text in ("--set", setting)]
    shown = start("tasks.py", *command[:2], "--only", "classical, otsu", *command[4:], *settings).stdout
    assert "| magnetic_tile | classical, otsu | - | pixel AP " in shown
    failed = start("tasks.py", *command, "--set", f"data.root={root}", *settings).stdout  # screws have no grades
    assert failed.count("| not finished |") == 2


@pytest.mark.slow
def test_label_efficiency_is_drawn_with_paired_differences(tmp_path: Path) -> None:
    every = [f"data.root={tmp_path / 'parts'}", "data.options={good: 24, defective: 6, size: 32}", "data.image_size=32"]
    every += ["model.backbone=test_resnet", "finetune.steps=2", "finetune.eval_every=2", "finetune.batch_size=4"]
    every += ["evaluate.bootstrap=100"]
    starts = ["--start", "none=pretrain.method=none", "--start", "simclr=pretrain.method=simclr pretrain.epochs=1"]
    command = [str(SCRIPTS / "synthetic.yaml"), "--labels", "1,all", "--seeds", "1", "--out", str(tmp_path / "out")]
    settings = [text for setting in [*every, "pretrain.batch_size=8"] for text in ("--set", setting)]
    shown = start("label_efficiency.py", *command, *starts, *settings).stdout
    values = read_json(tmp_path / "out" / "label_efficiency.json")["values"]
    assert set(values) == {"none 1", "none all", "simclr 1", "simclr all"}
    assert f"{values['none all']['pixel ap'][0]:.3f} (" in shown
    assert (tmp_path / "out" / "label_efficiency.svg").stat().st_size > 5000


@pytest.mark.slow
def test_the_loop_of_fine_tuning_is_measured() -> None:
    small = ["--size", "32", "--batch", "4", "--rounds", "1", "--steps", "1", "--threads", "1"]
    shown = start("benchmarks/finetuning.py", "--only", "classification", "--backbone", "test_resnet", *small).stdout
    (row,) = json.loads(shown[shown.index("{") :])["rows"]
    assert all(row[f"{term}_ms"] > 0 for term in ("bare", "views", "clipping", "loop"))
