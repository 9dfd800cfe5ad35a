"""Calibration against hand-made cases, scikit-learn and scores that are known to be right."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom
from sklearn.metrics import brier_score_loss

from ssl_defect.evaluate import calibration as calibration_error
from ssl_defect.evaluate.bootstrap import Resampling
from ssl_defect.evaluate.calibration import by_chance, calibration, calibration_family

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
    assert 0 < found["brier"]["low"] < found["brier"]["value"] < found["brier"]["high"] < 1
    assert set(found["ece"]) == {"value", "chance"}
    assert 0 < found["ece"]["chance"]["low"] < found["ece"]["chance"]["high"] < 1
    assert [round(10 * one["low"]) for one in found["bins"]] == [2, 3, 4, 5, 6, 7, 9]
    assert sum(one["images"] for one in found["bins"]) == 100
    for one in found["bins"]:
        inside = (scores >= one["low"] - 1e-12) & ((scores < one["high"] - 1e-12) | (one["high"] == 1))
        assert one["score"] == pytest.approx(scores[inside].mean())
        assert one["defective"]["value"] == pytest.approx(labels[inside].mean())
    gaps = [one["images"] * abs(one["score"] - one["defective"]["value"]) for one in found["bins"]]
    assert found["ece"]["value"] == pytest.approx(sum(gaps) / 100)


def test_what_chance_leaves_of_the_error_by_hand() -> None:
    alone = by_chance(np.array([0.5]), np.zeros(1), SPEC, 0.5)
    assert alone == {"low": 0.5, "high": 0.5, "p": 1.0}  # right or wrong, it is half away
    sure = by_chance(np.array([0.0, 1.0, 1.0]), np.arange(3), SPEC, 0.1)
    assert sure == {"low": 0.0, "high": 0.0, "p": 1 / 301}
    scores = np.full(400, 0.3)  # one bin: |share - 0.3|, of 400 throws, or of 10
    spec = Resampling(draws=4000)
    many, few = (by_chance(scores, groups, spec, 0.2) for groups in (np.arange(400), np.arange(400) // 40))
    assert many["high"] == pytest.approx(2.241 * np.sqrt(0.3 * 0.7 / 400), rel=0.07)  # of a normal, either side
    assert many["p"] == 1 / 4001
    assert few["p"] == pytest.approx(binom.cdf(1, 10, 0.3) + binom.sf(4, 10, 0.3), abs=0.03)


def test_draws_do_not_hang_on_how_many_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, groups = np.random.default_rng(3).random(50), np.arange(50) // 3
    found = by_chance(scores, groups, SPEC, 0.1)
    monkeypatch.setattr(calibration_error, "AT_ONCE", 7)
    assert by_chance(scores, groups, SPEC, 0.1) == found


@pytest.mark.parametrize(("steep", "least", "most"), [(1.0, 0.0, 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)), (2.0, 0.7, 1)])
def test_right_scores_are_called_wrong_as_often_as_said_and_wrong_ones_mostly(
    steep: float, least: float, most: float
) -> None:
    """150 near-copy groups of one to four images of one part; the log-odds of a wrong score are twice too large."""
    called = 0
    for draw in range(300):
        rng = np.random.default_rng([17, draw])
        odds, groups = rng.normal(-1, 2, 150), np.repeat(np.arange(150), rng.integers(1, 5, 150))
        labels = (rng.random(150) < expit(odds))[groups].astype(int)
        scores = expit(steep * odds)[groups]
        chance = by_chance(scores, groups, Resampling(draws=200, seed=draw), whole(scores, labels)["ece"])
        called += chance["p"] <= 0.05
    assert least <= called / 300 <= most


def test_one_class_alone_says_nothing() -> None:
    scores = np.linspace(0, 1, 20)
    assert calibration(np.zeros(20), scores, np.arange(20), SPEC) is None
    assert calibration(np.ones(20), scores, np.arange(20), SPEC) is None
    assert calibration(np.zeros(0), np.zeros(0), np.zeros(0), SPEC) is None
