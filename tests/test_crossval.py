"""Cross-validation: every fold once, resumable, mean and spread by hand, one line where it cannot be."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from ssl_defect import crossval, pipeline
from ssl_defect.cli import app
from ssl_defect.config import Recipe, load_recipe
from ssl_defect.crossval import cross_validate, spread, summarise, table
from ssl_defect.errors import UserError

FOLDS = 3


def write_metrics(run: Path, auroc: float | None, aupro: float | None = None, task: float | None = None) -> Path:
    (run / "evaluate").mkdir(parents=True)
    metrics = {
        "image": {"auroc": {"value": auroc, "low": None, "high": None}},
        "pixel": None if aupro is None else {"aupro": {"value": aupro}},
        "task": None if task is None else {"metrics": {"mae": {"value": task}}},
        "counts": {"test": 4, "good": 2, "defective": 2},
        "protocol": {"seed": 0},
    }
    (run / "evaluate" / "metrics.json").write_text(json.dumps(metrics))
    return run


def test_mean_and_spread_by_hand(tmp_path: Path) -> None:
    runs = [write_metrics(tmp_path / f"fold-{k}", value, task=2.0) for k, value in enumerate((0.6, 0.8, 1.0))]
    found = summarise("x", runs)
    assert found["metrics"]["image auroc"]["mean"] == pytest.approx(0.8)
    assert found["metrics"]["image auroc"]["std"] == pytest.approx(0.2)
    assert found["metrics"]["task mae"] == {"mean": 2, "std": 0, "folds": [2, 2, 2]}
    assert [fold["run"] for fold in found["folds"]] == ["fold-0", "fold-1", "fold-2"]
    lines = table(found).splitlines()
    assert lines[1].split() == ["image", "auroc", "0.8000", "0.2000", "0.6000", "0.8000", "1.0000"]
    assert len({len(line) for line in lines}) == 1


def test_a_fold_that_leaves_a_metric_undefined_is_shown_so(tmp_path: Path) -> None:
    runs = [write_metrics(tmp_path / "a", None, 0.5), write_metrics(tmp_path / "b", 0.7)]
    found = summarise("x", runs)["metrics"]
    assert found["image auroc"] == {"mean": 0.7, "std": None, "folds": [None, 0.7]}
    assert found["pixel aupro"]["folds"] == [0.5, None]
    assert spread([None, None]) == {"mean": None, "std": None}


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty noisy pictures in two folders, half with a bright square."""
    folder, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for number in range(40):
        kind = ("good", "spot")[number % 2]
        picture = rng.normal(100, 10, (32, 32))
        if kind == "spot":
            y, x = rng.integers(2, 24, 2)
            picture[y : y + 6, x : x + 6] += 90
        (folder / "raw" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "raw" / kind / f"{number}.png")
    raw = {
        "name": "small",
        "data": {"source": "folder", "root": str(folder / "raw"), "image_size": 32, "copies": False},
        "model": {"backbone": "test_resnet"},
        "pretrain": {"method": "none"},
        "finetune": {"task": "classical", "options": {"method": "adaptive"}},
        "evaluate": {"embeddings": False, "bootstrap": 100},
        "compute": {"threads": 1, "device": "cpu"},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(raw))
    return folder / "small.yaml"


def of_test(run: Path) -> list[str]:
    with (run / "prepare" / "samples.csv").open(newline="", encoding="utf-8") as file:
        return [row["image"] for row in csv.DictReader(file) if row["split"] == "test"]


def test_the_whole_of_it(recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["crossval", str(recipe_file), "--folds", str(FOLDS), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    runs = [tmp_path / "out" / f"fold-{k + 1}" for k in range(FOLDS)]
    images = [image for run in runs for image in of_test(run)]
    assert len(images) == len(set(images)) == 40
    found = json.loads((tmp_path / "out" / "crossval.json").read_text())
    values = [json.loads((run / "evaluate/metrics.json").read_text())["image"]["auroc"]["value"] for run in runs]
    assert found["metrics"]["image auroc"]["folds"] == values
    assert found["metrics"]["image auroc"]["mean"] == pytest.approx(statistics.fmean(values))
    assert found["metrics"]["image auroc"]["mean"] > 0.9
    assert f"{statistics.stdev(values):.4f}" in done.output
    assert all((run / "report" / "index.html").is_file() for run in runs)

    outcomes, real = [], pipeline.run
    monkeypatch.setattr(pipeline, "run", lambda *a, **k: outcomes.append(real(*a, **k)) or outcomes[-1])
    again = cross_validate(load_recipe(recipe_file), FOLDS, tmp_path / "out")
    assert again == found
    assert {state for outcome in outcomes for state in outcome.values()} == {"fresh"}


def test_more_folds_than_images_of_a_class_stops_before_anything_is_trained(recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="21 folds need at least 21 near-copy groups of each class"):
        cross_validate(load_recipe(recipe_file), 21, tmp_path / "out")
    assert not (tmp_path / "out" / "fold-1" / "pretrain").exists()


def test_a_published_split_has_no_folds(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file, ["data.protocol=official"])
    with pytest.raises(UserError, match="protocol must be supervised"):
        crossval.of_fold(recipe, 3, 0)


def test_folds_change_nothing_but_the_fold(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    assert isinstance(made := crossval.of_fold(recipe, 4, 2), Recipe)
    assert made.data.folds == 4
    assert made.data.fold == 2
    assert made.model_copy(update={"data": recipe.data}) == recipe
