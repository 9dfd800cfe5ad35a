"""The gallery follows the threshold of the operating point: verdicts, counts, marks, filters and order, in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fabricated_run import NASTY_CLASS, Fake
from test_browser import CONTRAST
from test_gallery_browser import all_rows, rows

from ssl_defect.report.gallery import section
from ssl_defect.report.records import RunRecords, read_run

pytestmark = pytest.mark.browser

FAKE = Fake(count=480, size=16, defects=("crack", "stain", NASTY_CLASS), gradcam=0, views=False)
Visit = Callable[..., Any]
MOVE = """
const field = document.getElementById("op-number"), done = arguments[arguments.length - 1];
field.value = arguments[0];
field.dispatchEvent(new Event("input", { bubbles: true }));
requestAnimationFrame(() => requestAnimationFrame(done));
"""
MATRIX = """
return Object.fromEntries([...document.querySelectorAll("[data-op-cell]")].map(
  (cell) => [cell.dataset.opCell, Number(cell.querySelector("b").textContent.replaceAll(",", ""))]));
"""
COUNTS = """
return Object.fromEntries([...document.querySelectorAll("[data-count]")].map(
  (node) => [node.dataset.count, Number(node.textContent.replaceAll(",", ""))]));
"""
THUMBS = """
return [...document.querySelectorAll(".thumbs .thumb")].map((one) => [Number(one.dataset.row),
  one.classList[1], !one.querySelector(".flag").hidden]);
"""


@pytest.fixture(scope="module")
def records(run: Path) -> RunRecords:
    return read_run(FAKE.recipe, run)


def at(records: RunRecords, threshold: float) -> list[dict[str, Any]]:
    """The images that the page would have been given, had the run's threshold been this one."""
    called = [(one, one.score >= threshold) for one in records.predictions]
    rows = [replace(o, verdict="defective" if c else "good", correct=c == bool(o.label)) for o, c in called]
    metrics = records.metrics | {"threshold": records.metrics["threshold"] | {"value": threshold}}
    beside = records.recipe.report.model_copy(update={"gallery": "folder"})  # no picture is packed for it
    recipe = records.recipe.model_copy(update={"report": beside})
    whole = section(replace(records, predictions=rows, metrics=metrics, recipe=recipe))
    found: list[dict[str, Any]] = json.loads(whole["data"])["images"]
    return found


def move(page: Any, threshold: float) -> None:
    page.execute_async_script(MOVE, repr(threshold))


def test_verdicts_counts_marks_and_order_are_those_of_a_run_with_that_threshold(
    visit: Visit, records: RunRecords
) -> None:
    page = visit()
    start = page.execute_script(THUMBS)
    score = records.predictions[7].score  # an image is called defective at its own score
    for threshold in (0.2, 0.62, score, 1.5):
        move(page, threshold)
        wanted = at(records, threshold)
        shown = [[one["row"], one["kind"], bool(one["doubts"])] for one in wanted]
        assert page.execute_script(THUMBS) == shown[:48]
        counts, matrix = page.execute_script(COUNTS), page.execute_script(MATRIX)
        kinds = [one["kind"] for one in wanted]
        assert counts == {
            **{kind: kinds.count(kind) for kind in ("miss", "alarm", "hit", "good")},
            "doubted": sum(bool(one["doubts"]) for one in wanted),
        }
        assert [counts[kind] for kind in ("miss", "alarm", "hit", "good")] == [
            matrix[k] for k in ("fn", "fp", "tp", "tn")
        ]
        assert page.find_element("css selector", ".moved").is_displayed()
    page.execute_script("document.querySelector('.moved button').click()")
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert page.execute_script(THUMBS) == start
    assert not page.find_element("css selector", ".moved").is_displayed()
    assert float(page.find_element("id", "op-number").get_property("value")) == 0.5
    assert page.get_log("browser") == []


def test_a_filter_and_an_open_image_follow(visit: Visit, records: RunRecords) -> None:
    page = visit()
    page.execute_script(
        "for (const kind of ['alarm', 'hit', 'good']) document.querySelector(`[data-kind=${kind}]`).click()"
    )
    for threshold in (0.65, 0.55):
        move(page, threshold)
        missed = [one["row"] for one in at(records, threshold) if one["kind"] == "miss"]
        assert all_rows(page) == missed
        tally = page.find_element("css selector", ".tally [role='status']").text
        assert tally == f"{len(missed)} of {len(records.predictions)} images"
        assert f"{len(missed)} defective images escape" in page.find_element("css selector", "[data-told]").text
    page.execute_script("document.querySelector('.thumb').click()")
    facts = page.find_element("css selector", "dialog .about").text
    assert "miss: called good" in facts
    assert "threshold 0.550" in facts
    tick = "return getComputedStyle(document.querySelector('dialog .track b')).left"
    width = page.execute_script("return document.querySelector('dialog .track').clientWidth")
    assert float(page.execute_script(tick).removesuffix("px")) == pytest.approx(0.55 * width, abs=1)


def test_the_page_one_is_on_stays(visit: Visit) -> None:
    page = visit()
    page.execute_script("document.querySelector('.gallery > .pager [data-page=\"1\"]').click()")
    before = rows(page)
    move(page, 0.45)
    assert page.find_element("css selector", ".gallery > .pager span").text.startswith("Page 2 of")
    assert rows(page) != before


def test_paper_keeps_the_run_s_own_threshold(visit: Visit, records: RunRecords) -> None:
    page = visit(media="print")
    move(page, 0.2)
    text = page.find_element("css selector", "#gallery > p.still").text
    assert text.startswith(f"At the threshold {sum(o.label and not o.correct for o in records.predictions)} defective")
    assert not page.find_element("css selector", ".moved").is_displayed()


@pytest.mark.parametrize("dark", [False, True])
def test_the_note_of_a_moved_threshold_has_enough_contrast(visit: Visit, dark: bool) -> None:
    page = visit(dark=dark)
    move(page, 0.3)
    assert page.execute_script(CONTRAST.replace('"body *"', '"#gallery *"')) == []
