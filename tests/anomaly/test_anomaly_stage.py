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
    assert (metrics["pixel"] is not None) == (detector in {"patchcore", "padim"})
    facts = json.loads((run / "finetune" / "finetune.json").read_text("utf-8"))
    counts = json.loads((run / "prepare" / "audit.json").read_text("utf-8"))["splits"]["train"]
    assert facts["labels"] == {"good": counts["good"]}  # no defect was looked at
    page = (run / "report" / "index.html").read_text("utf-8")
    assert f"anomaly: {detector} on test_resnet, from good images alone" in page
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


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"detector": "patchcor"}, "anomaly.detector: 'patchcor' is unknown; accepted: patchcore"),
        ({"options": {"share": 0}}, "anomaly.options.share: input should be greater than 0"),
        ({"options": {"strides": [8, 4]}}, "strides must rise"),
        ({"options": {"strides": [5]}}, "no map of stride 5; accepted: "),
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
