"""Calibration, recall by area and curves are drawn where metrics.json and curves.json have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fabricated_run import Fake, build
from read_page import Page

from ssl_defect.report.curves import _until, section
from ssl_defect.report.records import RunRecords, read_run
from ssl_defect.report.reliability import by_area, calibration
from ssl_defect.report.stage import render
from ssl_defect.report.svg import Frame, short


@pytest.fixture
def records(tmp_path: Path) -> RunRecords:
    return read_run(build(tmp_path, Fake(count=240, gradcam=0)), tmp_path)


def test_dots_and_whiskers_of_the_diagram_lie_on_their_bins(records: RunRecords) -> None:
    found, frame = calibration(records), Frame((0, 1), (0, 1))
    assert found is not None
    for one in records.metrics["calibration"]["bins"]:
        x, bad = short(frame.across(one["score"])), one["defective"]
        assert f'cx="{x}" cy="{short(frame.down(bad["value"]))}"' in found["figure"]
        low, high = (short(frame.down(bad[end])) for end in ("low", "high"))
        assert f'class="whisker" d="M{x} {low}V{high}"' in found["figure"]


def test_a_bin_of_one_group_has_no_whisker(records: RunRecords) -> None:
    records.metrics["calibration"]["bins"] = [
        {"low": 0.5, "high": 0.6, "images": 2, "score": 0.55, "defective": {"value": 0.5, "low": None, "high": None}}
    ]
    found = calibration(records)
    assert found is not None
    assert "whisker" not in found["figure"]
    assert "dot" in found["figure"]


def test_each_size_has_its_row_and_dot(records: RunRecords) -> None:
    recall = {"value": 0.5, "low": 0.3, "high": 0.7}
    rows = [{"area": ends, "images": 7, "groups": 5, "recall": recall} for ends in ([0.001, 0.004], [0.0123, 0.0123])]
    records.metrics["sizes"] = rows
    page = Page(render(records))
    assert "0.1% to 0.4%7" in page.text
    assert "1.2%7" in page.text
    areas = by_area(records)
    assert areas is not None
    assert areas["figure"].count('class="dot"') == 2
    records.metrics["threshold"]["value"] = None
    assert by_area(records) is None


def test_records_of_before_leave_the_sections_out(tmp_path: Path) -> None:
    page = Page(render(read_run(build(tmp_path, Fake(count=240, older=True)), tmp_path)))
    assert "Precision-recall of pixels" in page.text
    for words in ("Calibration", "How small a defect", "Shaded", "Curves of each defect class"):
        assert words not in page.text


def test_without_both_classes_there_is_no_calibration(tmp_path: Path) -> None:
    assert calibration(read_run(build(tmp_path, Fake(one_class=True)), tmp_path)) is None


def test_overlap_is_drawn_up_to_the_limit_and_cut_between_its_points(records: RunRecords) -> None:
    assert _until([0.0, 0.2, 0.4, 1.0], [0.0, 0.5, 0.7, 1.0], 0.3) == ([0.0, 0.2, 0.3], [0.0, 0.5, pytest.approx(0.6)])
    assert _until([0.0, 1.0], [0.0, 1.0], 1.0) == ([0.0, 1.0], [0.0, 1.0])
    records.curves["pro"] = {"fpr": [0.0, 0.2, 0.4, 1.0], "pro": [0.0, 0.5, 0.7, 1.0]}
    frame = Frame((0, 0.3), (0, 1))
    path = "L".join(f"{short(frame.across(x))} {short(frame.down(y))}" for x, y in ((0, 0), (0.2, 0.5), (0.3, 0.6)))
    assert f'class="line s0" d="M{path}"' in section(records)["all"][-1]["figure"]


def test_each_class_has_its_curves_with_bands_marks_and_areas(records: RunRecords) -> None:
    records.curves["classes"]["unknown"] = records.curves["classes"]["crack"]
    found = section(records)["classes"]
    assert [one["name"] for one in found] == ["crack", "stain"]
    for one in found:
        assert [small["title"] for small in one["figures"]] == ["ROC", "Precision-recall", "Per-region overlap"]
        assert all('class="spread"' in small["figure"] for small in one["figures"])
        assert ["chance" in small["figure"] for small in one["figures"]] == [True, False, True]
        recall = records.metrics["classes"][one["name"]]["image"]["recall"]["value"]
        frame = Frame((0, 1), (0, 1), width=240, height=190, left=32, bottom=24)
        assert f'class="mark" cx="{short(frame.across(0.2))}' in one["figures"][0]["figure"]
        assert f'cy="{short(frame.down(recall))}"' in one["figures"][0]["figure"]
    del records.metrics["classes"]["stain"]  # a single class: its curves are those above
    assert section(records)["classes"] == []


def test_many_classes_are_folded_and_still_there_without_script(tmp_path: Path) -> None:
    page = Page(render(read_run(build(tmp_path, Fake(count=240, defects=tuple("abcdef"))), tmp_path)))
    (fold,) = [facts for tag, facts in page.tags if tag == "details" and facts.get("data-test") == "class-curves"]
    assert "open" not in fold


def test_both_are_on_the_page(records: RunRecords) -> None:
    page = Page(render(records))
    assert "Expected calibration error" in page.text
    assert "How small a defect is still found" in page.text


def test_bands_are_drawn_between_their_ends(records: RunRecords) -> None:
    records.curves["bands"] = {"roc": {"fpr": [0.0, 0.5, 1.0], "low": [0.0, 0.25, 1.0], "high": [0.5, 0.75, 1.0]}}
    roc, pr = section(records)["all"][:2]
    assert (roc["band"], pr["band"]) == (True, False)
    frame = Frame((0, 1), (0, 1))
    corners = [(0, 0.5), (0.5, 0.75), (1, 1), (1, 1), (0.5, 0.25), (0, 0)]
    path = "L".join(f"{short(frame.across(x))} {short(frame.down(y))}" for x, y in corners)
    assert f'class="spread" d="M{path}z"' in roc["figure"]
    assert "Shaded: the 95% interval at each place across" in Page(render(records)).text


def test_a_score_that_is_no_probability_is_said_to_be_none(records: RunRecords) -> None:
    records.metrics["protocol"]["task"] = "anomaly"
    assert "was not made to be a probability" in Page(render(records)).text
