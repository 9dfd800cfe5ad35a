"""The stage that stands where finetune would, from a recipe to an evaluated detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitting import SMALL

from ssl_defect import pipeline
from ssl_defect.config import Recipe
from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.nets.detector import load_detector
from ssl_defect.predict import predict

MAPLESS = {"gaussian", "knn", "one_class_svm", "isolation_forest"}


def recipe(folder: Path, detector: str = "patchcore", **options: Any) -> Recipe:
    data = {"source": "synthetic", "root": str(folder / "parts"), "image_size": 32, "copies": False}
    data["options"] = {"good": 40, "defective": 4, "size": 32}
    return Recipe.model_validate(
        {
            "name": "good_only",
            "data": data,
            "model": {"backbone": "test_resnet"},
            "pretrain": {"method": "none"},
            "anomaly": {"detector": detector, "options": SMALL.get(detector, {}) | options},
            "evaluate": {"bootstrap": 100, "embeddings": False},
            "compute": {"threads": 1, "device": "cpu"},
        }
    )


@pytest.mark.parametrize("detector", DETECTORS)
def test_from_good_parts_to_a_report(detector: str, tmp_path: Path) -> None:
    outcome = pipeline.run(recipe(tmp_path, detector), tmp_path / "run")
    assert set(outcome.values()) == {"ran"}
    run = tmp_path / "run"
    metrics = json.loads((run / "evaluate" / "metrics.json").read_text("utf-8"))
    assert 0 <= metrics["image"]["auroc"]["value"] <= 1
    assert (metrics["pixel"] is None) == (detector in MAPLESS)
    facts = json.loads((run / "finetune" / "finetune.json").read_text("utf-8"))
    counts = json.loads((run / "prepare" / "audit.json").read_text("utf-8"))["splits"]["train"]
    assert facts["labels"] == {"good": counts["good"]}  # no defect was looked at
    page = (run / "report" / "index.html").read_text("utf-8")
    assert f"anomaly: {detector} on test_resnet, from good images alone" in page
    assert f"{counts['good']} good images, no defect" in page
    assert pipeline.run(recipe(tmp_path, detector), run) == dict.fromkeys(outcome, "fresh")


def test_the_scale_is_the_quantile_of_good_validation_images(tmp_path: Path) -> None:
    pipeline.run(recipe(tmp_path, quantile=0.9), tmp_path / "run", last="evaluate")
    rows = (tmp_path / "run" / "evaluate" / "predictions.csv").read_text("utf-8").splitlines()
    table = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]
    good = [float(row["score"]) for row in table if row["split"] == "val" and row["label"] == "0"]
    assert np.quantile(good, 0.9) == pytest.approx(0.5, abs=0.02)


def test_a_share_and_a_seed_make_another_detector_and_other_settings_run_it_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.run(recipe(tmp_path, share=0.1), run, last="finetune")
    small = load_detector(run / "finetune" / "model.safetensors")
    outcome = pipeline.run(recipe(tmp_path, share=0.5), run, last="finetune")
    assert outcome == {"prepare": "fresh", "pretrain": "fresh", "finetune": "ran"}
    large = load_detector(run / "finetune" / "model.safetensors")
    assert len(large.head.bank) == 5 * len(small.head.bank)
    kept = {tuple(row) for row in large.head.bank.tolist()}
    assert len(kept) > 1
    x = torch.rand(2, 1, 32, 32)
    assert (large.predict(x)["score"] != small.predict(x)["score"]).any()


def test_predict_knows_such_a_detector(tmp_path: Path) -> None:
    pipeline.run(recipe(tmp_path), tmp_path / "run", last="evaluate")
    rows = predict(tmp_path / "run", [tmp_path / "parts" / "test"], tmp_path / "out")
    assert len(rows) > 4
    assert all(0 <= row["score"] <= 1 and row["area"] != "" for row in rows)


def test_beside_finetune_it_is_a_run_of_its_own_on_the_same_stages(tmp_path: Path) -> None:
    both = recipe(tmp_path, "gaussian").model_dump()
    both["finetune"] |= {"task": "classification", "steps": 2, "eval_every": 1, "batch_size": 4}
    runs = pipeline.runs_of(Recipe.model_validate(both), tmp_path / "run")
    assert [place.name for _, place in runs] == ["run", "run-anomaly"]
    outcomes = [pipeline.run(one, place, last="evaluate") for one, place in runs]
    assert outcomes[1] == {"prepare": "taken", "pretrain": "taken", "finetune": "ran", "evaluate": "ran"}
    tasks = [json.loads((place / "evaluate" / "metrics.json").read_text("utf-8"))["protocol"] for _, place in runs]
    assert [one["task"] for one in tasks] == ["classification", "anomaly"]
    assert tasks[0]["split_digest"] == tasks[1]["split_digest"]
    for _, place in runs:
        states = [row.state for row in pipeline.status(place)]
        assert states == ["done", "done", "done", "done", "missing"]


def test_a_mistake_in_either_is_said_before_anything_runs(tmp_path: Path) -> None:
    both = recipe(tmp_path, "padin").model_dump()
    with pytest.raises(UserError, match="did you mean 'padim'"):
        pipeline.runs_of(Recipe.model_validate(both), tmp_path / "run")


def test_alone_it_is_one_run_and_null_takes_the_section_out(tmp_path: Path) -> None:
    alone = recipe(tmp_path)
    assert pipeline.runs_of(alone, tmp_path / "run") == [(alone, tmp_path / "run")]
    both = alone.model_dump()
    assert Recipe.model_validate(both).beside
    assert not Recipe.model_validate(both | {"finetune": None}).beside


def known_patches(run: Path) -> set[tuple[float, ...]]:
    bank = load_detector(run / "finetune" / "model.safetensors").head.bank
    return {tuple(row) for row in bank.tolist()}


def test_few_good_images_are_drawn_by_the_seed_fewer_among_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for count in (2, 5, 1000, None):
        run = tmp_path / f"run-{count}"
        pipeline.run(recipe(tmp_path, share=1.0, images=count), run, last="finetune")
        labels = json.loads((run / "finetune" / "finetune.json").read_text("utf-8"))["labels"]["good"]
        found[count] = (labels, known_patches(run))
    train = json.loads((run / "prepare" / "audit.json").read_text("utf-8"))["splits"]["train"]["good"]
    assert [found[count][0] for count in found] == [2, 5, train, train]
    assert found[2][1] < found[5][1] < found[None][1] == found[1000][1]
    assert f"{train} good training images, fewer than anomaly.options.images (1000)" in capsys.readouterr().err
    other = recipe(tmp_path, share=1.0, images=2).model_copy(update={"seed": 1})
    pipeline.run(other, tmp_path / "other", last="finetune")
    assert known_patches(tmp_path / "other") != found[2][1]


def test_suspected_images_are_left_out_and_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.run(recipe(tmp_path, "gaussian", clean=0.25), run, last="finetune")
    facts = json.loads((run / "finetune" / "finetune.json").read_text("utf-8"))
    counts = json.loads((run / "prepare" / "audit.json").read_text("utf-8"))["splits"]["train"]
    assert len(facts["cleaned"]) == round(0.25 * counts["good"])
    assert facts["labels"]["good"] == counts["good"] - len(facts["cleaned"])
    assert not list((run / "finetune").glob("cleaning-*"))


def test_logistic_scores_keep_the_order(tmp_path: Path) -> None:
    base = recipe(tmp_path, "gaussian").model_dump() | {"finetune": None}
    base["data"]["options"] |= {"defective": 12}
    both = {}
    for name in ("quantile", "logistic"):
        anomaly = {"detector": "gaussian", "options": {"calibration": name}}
        wanted = Recipe.model_validate(base | {"anomaly": anomaly})
        pipeline.run(wanted, tmp_path / name, last="evaluate")
        both[name] = json.loads((tmp_path / name / "evaluate" / "metrics.json").read_text("utf-8"))
    assert both["quantile"]["image"]["auroc"] == both["logistic"]["image"]["auroc"]
    heads = [load_detector(tmp_path / name / "finetune" / "model.safetensors").head for name in both]
    assert float(heads[0].steepness) != float(heads[1].steepness)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"detector": "patchcor"}, "anomaly.detector: 'patchcor' is unknown; accepted: patchcore"),
        ({"options": {"share": 0}}, "anomaly.options.share: input should be greater than 0"),
        ({"options": {"strides": [8, 4]}}, "strides must rise"),
        ({"options": {"strides": [5]}}, "no map of stride 5; accepted: "),
        ({"options": {"images": 0}}, "anomaly.options.images: input should be greater than or equal to 1"),
        ({"options": {"coreset": 0.1}}, "anomaly.options.coreset: unknown key"),
    ],
)
def test_a_mistake_is_one_clear_line(change: dict[str, Any], line: str, tmp_path: Path) -> None:
    base = recipe(tmp_path)
    wrong = Recipe.model_validate(base.model_dump() | {"anomaly": {"detector": "patchcore", "options": {}} | change})
    with pytest.raises(UserError) as caught:
        pipeline.run(wrong, tmp_path / "run", last="finetune")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
