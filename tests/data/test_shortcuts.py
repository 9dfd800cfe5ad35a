"""Sets that the light gives away."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssl_defect.config import Recipe
from ssl_defect.data.prepare import prepare
from ssl_defect.data.records import Sample
from ssl_defect.data.shortcuts import separation, shortcuts, statistics
from ssl_defect.report.audit import _shortcuts


def some(splits: str = "train val test") -> list[Sample]:
    """Good and defective by turns, split after split."""
    return [
        Sample(f"{split}{number}.png", label=number % 2, split=split)
        for split in splits.split()
        for number in range(20)
    ]


def pictures(levels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-20, 21, (len(levels), 8, 8, 1))
    return (levels[:, None, None, None] + noise).astype(np.uint8)


def test_brightness_that_tells_all_is_found_and_innocent_pictures_are_not_blamed() -> None:
    samples = some()
    labels = np.array([sample.label for sample in samples])
    told = shortcuts(pictures(120 + 60 * labels), samples)
    assert told["brightness"] == {"test": 1.0, "drift": pytest.approx(0.5, abs=0.45)}
    innocent = shortcuts(pictures(np.full(len(samples), 120)), samples)
    assert 0.1 < innocent["brightness"]["test"] < 0.9
    assert not _shortcuts(innocent)


def test_drift_of_the_good_ones() -> None:
    samples = some()
    late = np.array([sample.split == "test" for sample in samples])
    found = shortcuts(pictures(150 - 50 * late), samples)
    assert found["brightness"]["drift"] == 0.0
    (sentence,) = [text for text in _shortcuts(found) if "training" in text]
    assert "less brightness" in sentence
    assert "AUROC 1.000" in sentence


def test_separation_is_the_auroc_and_nothing_without_a_side() -> None:
    rng = np.random.default_rng(1)
    low, high = rng.integers(0, 5, 30).astype(float), rng.integers(1, 6, 20).astype(float)
    labels = [0] * 30 + [1] * 20
    assert separation(low, high) == pytest.approx(roc_auc_score(labels, np.concatenate([low, high])))
    assert separation(low, high[:0]) is None
    only_good = [replace(sample, label=0) for sample in some()]
    assert shortcuts(pictures(np.full(60, 99)), only_good)["contrast"]["test"] is None


def test_statistics_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(np.linspace(40, 200, 33))
    whole = statistics(images)
    monkeypatch.setattr("ssl_defect.data.shortcuts.CHUNK", 7)
    parts = statistics(images)
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert whole["brightness"][0] == pytest.approx(images[0].mean(), rel=1e-6)


@pytest.mark.real
def test_the_screws_of_mvtec_are_told_by_their_brightness(screw_root: Path, tmp_path: Path) -> None:
    data = {"source": "mvtec", "root": str(screw_root), "image_size": 32, "protocol": "official", "copies": False}
    prepare(Recipe.model_validate({"name": "screw", "data": data}), tmp_path)
    found = json.loads((tmp_path / "audit.json").read_text("utf-8"))["shortcuts"]["brightness"]
    assert found["test"] > 0.99
    assert found["drift"] < 0.1
