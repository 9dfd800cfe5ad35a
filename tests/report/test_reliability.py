"""Calibration and recall by area against hand-made cases and a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fabricated_run import Fake, build
from read_page import Page
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss

from ssl_defect.report.records import Prediction, RunRecords, read_run
from ssl_defect.report.reliability import binned, by_area, calibration, measures, quarters, wilson
from ssl_defect.report.results import section
from ssl_defect.report.stage import render
from ssl_defect.report.svg import Frame, short

ONE = Prediction("x", 0, "test", 0, 1, "crack", 0.0, "good", False, "", None, None)


def made(**facts: object) -> Prediction:
    return Prediction(**{**vars(ONE), **facts})  # type: ignore[arg-type]


@pytest.fixture
def records(tmp_path: Path) -> RunRecords:
    return read_run(build(tmp_path, Fake(count=240, gradcam=0)), tmp_path)


def test_calibration_error_of_a_case_computed_by_hand() -> None:
    scores, labels = np.array([0.05, 0.05, 0.95, 1.0]), np.array([0.0, 1.0, 1.0, 1.0])
    ece, brier = measures(binned(scores, labels).sum(0)[None])
    assert ece[0] == pytest.approx((abs(0.1 - 1) + abs(1.95 - 2)) / 4)
    assert brier[0] == pytest.approx(brier_score_loss(labels, scores))


def test_a_calibrated_score_has_almost_no_error_and_a_shifted_one_its_shift() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.0, 0.7, 40_000)
    labels = (rng.random(len(scores)) < scores).astype(float)
    assert measures(binned(scores, labels).sum(0)[None])[0][0] < 0.01
    assert measures(binned(scores + 0.2, labels).sum(0)[None])[0][0] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (3, 7), (7, 7), (40, 200)])
def test_the_wilson_interval_is_that_of_scipy(hits: int, count: int) -> None:
    found = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits, count) == pytest.approx((found.low, found.high), abs=1e-6)


def test_the_interval_holds_its_value_and_is_always_the_same(records: RunRecords) -> None:
    first, second = calibration(records), calibration(records)
    assert first is not None
    assert first == second
    assert [name for name, _, _ in first["rows"]] == ["Expected calibration error", "Brier score"]
    low, high = map(float, first["rows"][1][2].split(" to "))
    assert low < float(first["rows"][1][1]) < high
    labels = [one.label for one in records.predictions]
    brier = brier_score_loss(labels, [one.score for one in records.predictions])
    assert float(first["rows"][1][1]) == pytest.approx(brier, abs=0.00051)
    assert first["probability"]


def test_calibration_needs_both_classes(tmp_path: Path) -> None:
    assert calibration(read_run(build(tmp_path, Fake(one_class=True)), tmp_path)) is None


def test_areas_fall_into_quarters_and_equal_ones_stay_together() -> None:
    parts = quarters([made(area_true=n / 100) for n in range(1, 9)])
    assert [[round(100 * one.area_true) for one in part if one.area_true] for part in parts] == [
        [1, 2],
        [3, 4],
        [5, 6],
        [7, 8],
    ]
    assert [len(part) for part in quarters([made(area_true=0.1)] * 5 + [made(area_true=0.2)])] == [5, 1]


def test_recall_is_counted_in_each_quarter(records: RunRecords) -> None:
    found = [made(area_true=n / 1000, verdict="defective" if n > 10 else "good") for n in range(1, 41)]
    object.__setattr__(records, "predictions", [*found, made(label=0), made(area_true=None)])
    areas = by_area(records)
    assert areas is not None
    assert [(row["area"], row["images"], row["recall"]) for row in areas["rows"]] == [
        ("0.1% to 1%", 10, "0.000"),
        ("1.1% to 2%", 10, "1.000"),
        ("2.1% to 3%", 10, "1.000"),
        ("3.1% to 4%", 10, "1.000"),
    ]
    object.__setattr__(records, "predictions", found[:19])
    assert by_area(records) is None


def test_both_are_on_the_page(records: RunRecords) -> None:
    page = Page(render(records))
    assert "Expected calibration error" in page.text
    assert "How small a defect is still found" in page.text


def test_bands_are_drawn_between_their_ends(records: RunRecords) -> None:
    assert "spread" not in "".join(str(one["figure"]) for one in section(records)["curves"])
    records.curves["bands"] = {"roc": {"fpr": [0.0, 0.5, 1.0], "low": [0.0, 0.25, 1.0], "high": [0.5, 0.75, 1.0]}}
    roc, pr = section(records)["curves"][:2]
    assert (roc["band"], pr["band"]) == (True, False)
    frame = Frame((0, 1), (0, 1))
    corners = [(0, 0.5), (0.5, 0.75), (1, 1), (1, 1), (0.5, 0.25), (0, 0)]
    path = "L".join(f"{short(frame.across(x))} {short(frame.down(y))}" for x, y in corners)
    assert f'class="spread" d="M{path}z"' in roc["figure"]
    assert "Shaded: the 95% interval at each place across" in Page(render(records)).text


def test_a_score_that_is_no_probability_is_said_to_be_none(records: RunRecords) -> None:
    records.metrics["protocol"]["task"] = "anomaly"
    assert "was not made to be a probability" in Page(render(records)).text
