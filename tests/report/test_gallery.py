"""The gallery's data: every test image once, in its order, packed within its room, marked, escaped."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated_run import NASTY_CLASS, NASTY_IMAGE, Fake, build
from hypothesis import given
from hypothesis import strategies as st

from ssl_defect.report import gallery
from ssl_defect.report.gallery import error_of, files, form_of, kind_of, order, room_of, section
from ssl_defect.report.mistakes import doubts
from ssl_defect.report.pictures import packed
from ssl_defect.report.records import Prediction, RunRecords, read_run
from ssl_defect.report.stage import render, report


@pytest.fixture
def records(tmp_path: Path) -> RunRecords:
    return read_run(build(tmp_path, Fake(count=120, defects=("crack", NASTY_CLASS))), tmp_path)


def images_of(records: RunRecords) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(section(records)["data"])["images"]
    return found


def with_scores(records: RunRecords, scores: dict[int, float]) -> RunRecords:
    """The same run with other scores by place, called at 0.5."""
    rows = [
        replace(one, score=scores[place], verdict="defective" if scores[place] >= 0.5 else "good")
        for place, one in enumerate(records.predictions)
        if place in scores
    ]
    return replace(records, predictions=rows, maps=None, audit=records.audit | {"copies": {}})


def wanting(records: RunRecords, form: str) -> RunRecords:
    settings = records.recipe.report.model_copy(update={"gallery": form})
    return replace(records, recipe=records.recipe.model_copy(update={"report": settings}))


def test_every_test_image_is_there_once_with_its_own_facts(records: RunRecords) -> None:
    images = images_of(records)
    assert sorted(one["row"] for one in images) == sorted(one.row for one in records.predictions)
    known = {one.row: one for one in records.predictions}
    for one in images:
        true = known[one["row"]]
        assert (one["file"], one["score"], one["group"]) == (true.image, true.score, true.group)
        assert one["class"] == (true.defect if true.label else "good")
        assert (one["kind"] in {"miss", "alarm"}) == (not true.correct)
        assert one["copies"] == sum(sample.group == true.group for sample in records.store.samples)


def test_misses_and_false_alarms_come_first_in_turn_and_the_worst_of_each_first(records: RunRecords) -> None:
    images = images_of(records)
    wrong = [one for one in images if one["kind"] in {"miss", "alarm"}]
    assert images[: len(wrong)] == wrong
    misses, alarms = ([one["score"] for one in wrong if one["kind"] == kind] for kind in ("miss", "alarm"))
    assert len(misses) > 1
    assert len(alarms) > 1
    assert misses == sorted(misses)
    assert alarms == sorted(alarms, reverse=True)
    paired = min(len(misses), len(alarms))
    assert [one["kind"] for one in wrong[: 2 * paired]] == ["miss", "alarm"] * paired
    rest = [one["error"] for one in images[len(wrong) :]]
    assert rest == sorted(rest, reverse=True)
    assert [records.predictions[place].row for place in order(records)] == [one["row"] for one in images]


@pytest.mark.parametrize(
    ("label", "score", "threshold", "error"),
    [(1, 0.1, 0.4, 0.3), (1, 0.9, 0.4, -0.5), (0, 0.9, 0.4, 0.5), (0, 0.1, 0.4, -0.3), (1, 0.2, None, 0.8)],
)
def test_error_is_the_distance_on_the_wrong_side(
    records: RunRecords, label: int, score: float, threshold: float | None, error: float
) -> None:
    one = replace(records.predictions[0], label=label, score=score)
    assert error_of(one, threshold) == pytest.approx(error)


def test_kinds_are_told_by_label_and_verdict(records: RunRecords) -> None:
    one: Prediction = records.predictions[0]
    names = [kind_of(replace(one, label=label, verdict=word)) for label in (1, 0) for word in ("defective", "good")]
    assert names == ["hit", "miss", "alarm", "good"]


def test_near_copies_with_different_labels_are_doubted(records: RunRecords) -> None:
    mixed = set(records.audit["copies"]["mixed_labels"][0]["images"])
    said = {one["file"] for one in images_of(records) if any("near-copies" in text for text in one["doubts"])}
    assert said == mixed & {one.image for one in records.predictions}
    assert said


def test_a_sure_mistake_is_doubted_and_a_close_one_is_not(records: RunRecords) -> None:
    good = [place for place, one in enumerate(records.predictions) if not one.label]
    bad = [place for place, one in enumerate(records.predictions) if one.label]
    scores = {place: 0.10 + 0.01 * n for n, place in enumerate(good[:10])}
    scores |= {place: 0.80 + 0.01 * n for n, place in enumerate(bad[:10])}
    assert doubts(with_scores(records, scores)) == {}
    sure = with_scores(records, scores | {bad[0]: 0.1 - 1e-3, bad[1]: 0.135, good[0]: 0.9, good[1]: 0.82})
    texts = {one.row: " ".join(doubts(sure).get(one.row, [])) for one in sure.predictions}
    assert "below 90% of the good images" not in texts[records.predictions[bad[1]].row]
    assert "below 90% of the good images" in texts[records.predictions[bad[0]].row]
    assert "above 90% of the defective images" in texts[records.predictions[good[0]].row]
    assert texts[records.predictions[good[1]].row] == ""


def test_equal_scores_cast_no_doubt(records: RunRecords) -> None:
    assert doubts(with_scores(records, dict.fromkeys(range(20), 0.0))) == {}
    assert doubts(with_scores(records, dict.fromkeys(range(20), 1.0))) == {}


def test_without_maps_the_heat_is_grad_cam(tmp_path: Path) -> None:
    records = read_run(build(tmp_path, Fake(count=60, task="classification", gradcam=4)), tmp_path)
    images = images_of(records)
    assert {one["row"] for one in images if one["heat"]} == set(records.gradcam)
    assert not any(one["contour"] for one in images)
    assert any(one["mask"] for one in images)


def test_names_cannot_leave_the_data_block(tmp_path: Path) -> None:
    closing = "</script><script>alert(1)</script>"
    records = read_run(build(tmp_path, Fake(defects=(NASTY_CLASS, closing))), tmp_path)
    block = section(records)["data"]
    assert "<" not in block
    page = render(records)
    (inside,) = re.findall(r'<script type="application/json" id="gallery-data">(.*?)</script>', page, re.S)
    images = json.loads(inside)["images"]
    assert {NASTY_CLASS, closing} <= {one["class"] for one in images}
    assert NASTY_IMAGE in {one["file"] for one in images}
    assert "\\u003cscript\\u003e" in block


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3, 4]), st.integers(400, 6000))
def test_pictures_fit_their_room(height: int, width: int, channels: int, limit: int) -> None:
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, channels), dtype=np.uint8)
    data = packed(pixels, 64, limit)
    assert data[:4] == b"RIFF"
    assert len(data) <= limit or channels == 4


def test_the_room_of_a_thousand_stays_below_fifteen_megabytes() -> None:
    room = room_of("page", 1000)
    coded = (room.picture + room.heat) * 4 / 3
    assert 1000 * (coded + 2 * room.outline + 600) < 14_000_000
    assert room_of("page", 50).picture > room.picture


def test_pictures_lie_in_the_page_up_to_the_limit(records: RunRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    assert form_of(records) == "page"
    assert list(files(records)) == []
    for one in images_of(records):
        data = base64.b64decode(one["picture"].removeprefix("data:image/webp;base64,"))
        assert len(data) <= room_of("page", len(records.predictions)).picture
    monkeypatch.setattr(gallery, "LIMIT", len(records.predictions) - 1)
    assert form_of(records) == "folder"
    assert form_of(wanting(records, "page")) == "page"


def test_a_folder_holds_exactly_the_files_that_the_page_names(records: RunRecords, tmp_path: Path) -> None:
    beside = wanting(records, "folder")
    report(beside.recipe, tmp_path, tmp_path / "report")
    html = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    named = {one[layer] for one in images_of(beside) for layer in ("picture", "heat") if one[layer]}
    there = {path.relative_to(tmp_path / "report").as_posix() for path in (tmp_path / "report").rglob("*.webp")}
    assert named == there
    assert len(named) > len(records.predictions)
    assert "img-src data: 'self' file:;" in html
    assert "img-src data:;" in render(records)
    again = dict(files(beside))
    assert all((tmp_path / "report" / name).read_bytes() == data for name, data in again.items())
    assert again.keys() == there


def test_no_gallery_leaves_the_worst_mistakes(records: RunRecords) -> None:
    html = render(wanting(records, "none"))
    assert 'id="gallery-data"' not in html
    assert "report.gallery is none" in html
    assert "Worst misses" in html
    assert list(files(wanting(records, "none"))) == []
