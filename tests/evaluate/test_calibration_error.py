"""Calibration against hand-made cases, scikit-learn and scores that are known to be right."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from ssl_defect.evaluate.bootstrap import Resampling
from ssl_defect.evaluate.calibration import calibration, calibration_family

SPEC = Resampling(draws=300)


def whole(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    found = calibration_family(labels, scores)(np.ones((1, len(scores))))
    return {name: float(value[0]) for name, value in found.items()}


def test_a_case_computed_by_hand() -> None:
    scores, labels = np.array([0.05, 0.05, 0.95, 1.0]), np.array([0, 1, 1, 1])
    found = whole(scores, labels)
    assert found["ece"] == pytest.approx((abs(0.1 - 1) + abs(1.95 - 2)) / 4)
    assert found["brier"] == pytest.approx(brier_score_loss(labels, scores))


def test_a_calibrated_score_has_almost_no_error_and_a_shifted_one_its_shift() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.0, 0.7, 40_000)
    labels = rng.random(len(scores)) < scores
    assert whole(scores, labels)["ece"] < 0.01
    assert whole(scores + 0.2, labels)["ece"] == pytest.approx(0.2, abs=0.01)


def test_weights_are_how_often_an_image_counts() -> None:
    rng = np.random.default_rng(1)
    scores, labels, times = rng.random(30), rng.integers(0, 2, 30), rng.integers(0, 3, 30)
    found = calibration_family(labels, scores)(times[None].astype(np.float32))
    again = whole(np.repeat(scores, times), np.repeat(labels, times))
    assert {name: float(value[0]) for name, value in found.items()} == pytest.approx(again, rel=1e-6)


def test_the_block_has_values_intervals_and_the_bins_that_hold_images() -> None:
    rng = np.random.default_rng(2)
    scores = np.append(rng.uniform(0.2, 0.8, 99), 1.0)
    labels = (rng.random(100) < scores).astype(int)
    found = calibration(labels, scores, np.arange(100) // 2, SPEC)
    assert found is not None
    assert found == calibration(labels, scores, np.arange(100) // 2, SPEC)
    for name in ("ece", "brier"):
        assert 0 < found[name]["low"] < found[name]["value"] < found[name]["high"] < 1
    assert [round(10 * one["low"]) for one in found["bins"]] == [2, 3, 4, 5, 6, 7, 9]
    assert sum(one["images"] for one in found["bins"]) == 100
    for one in found["bins"]:
        inside = (scores >= one["low"] - 1e-12) & ((scores < one["high"] - 1e-12) | (one["high"] == 1))
        assert one["score"] == pytest.approx(scores[inside].mean())
        assert one["defective"]["value"] == pytest.approx(labels[inside].mean())
    gaps = [one["images"] * abs(one["score"] - one["defective"]["value"]) for one in found["bins"]]
    assert found["ece"]["value"] == pytest.approx(sum(gaps) / 100)


def test_one_class_alone_says_nothing() -> None:
    scores = np.linspace(0, 1, 20)
    assert calibration(np.zeros(20), scores, np.arange(20), SPEC) is None
    assert calibration(np.ones(20), scores, np.arange(20), SPEC) is None
    assert calibration(np.zeros(0), np.zeros(0), np.zeros(0), SPEC) is None
