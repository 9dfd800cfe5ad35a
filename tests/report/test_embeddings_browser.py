"""The embeddings in a real Chromium: a point shows its image, arrow keys walk, colours change, a click opens it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fabricated_run import NASTY_CLASS, Fake
from test_browser import CONTRAST, OVERFLOW

from ssl_defect.report import embeddings
from ssl_defect.report.records import RunRecords, read_run
from ssl_defect.report.stage import report

pytestmark = pytest.mark.browser

FAKE = Fake(count=120, defects=("crack", "stain", NASTY_CLASS))
Visit = Callable[..., Any]
PLACES = """
const [box, index] = [document.querySelectorAll(".cloud")[arguments[0]], arguments[1]];
box.scrollIntoView({ block: "center" });
const chart = box.querySelector("svg"), at = chart.getBoundingClientRect();
const d = [...chart.querySelectorAll(":scope > .dots")].map((path) => path.getAttribute("d")).join("");
const [, x, y] = [...d.matchAll(/M(-?[\\d.]+) (-?[\\d.]+)/g)][index].map(Number);
const scale = at.width / chart.viewBox.baseVal.width;
return [at.left + x * scale, at.top + y * scale];
"""

MOVE = """
const field = document.getElementById("op-number"), done = arguments[arguments.length - 1];
field.value = arguments[0];
field.dispatchEvent(new Event("input", { bubbles: true }));
requestAnimationFrame(() => requestAnimationFrame(done));
"""


@pytest.fixture(scope="module")
def records(run: Path) -> RunRecords:
    return read_run(FAKE.recipe, run)


def drawn(records: RunRecords) -> list[int]:
    """Rows in the order in which the figures draw them: class by class."""
    classes = [name for name in records.store.classes if name in {row["defect"] for row in records.embeddings or []}]
    return [int(row["row"]) for name in classes for row in records.embeddings or [] if row["defect"] == name]


def text_of(page: Any, selector: str) -> str:
    return str(page.execute_script("return document.querySelector(arguments[0]).textContent", selector))


def described(records: RunRecords, row: int) -> str:
    one = next(one for one in records.predictions if one.row == row)
    return f"{one.image}: {one.defect}, called {one.verdict}, score {one.score:.3f}"


def move(page: Any, box: int, index: int, kind: str = "mouseMoved") -> None:
    x, y = page.execute_script(PLACES, box, index)
    facts = {"x": x, "y": y, "button": "left" if kind != "mouseMoved" else "none", "clickCount": 1}
    page.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **facts})


def far_from_others(records: RunRecords, key: str) -> int:
    """Place in the drawing order of the point that lies farthest from its nearest neighbour."""
    by_row = {int(row["row"]): (float(row[f"{key}_x"]), float(row[f"{key}_y"])) for row in records.embeddings or []}
    places = [by_row[row] for row in drawn(records)]
    gaps = [min((x - a) ** 2 + (y - b) ** 2 for a, b in places if (a, b) != (x, y)) for x, y in places]
    return gaps.index(max(gaps))


def start(page: Any) -> Any:
    """Tab to the first map from the control before it."""
    from selenium.webdriver.common.keys import Keys

    page.find_element("css selector", ".clouds select").send_keys(Keys.TAB)
    return page.switch_to.active_element


@pytest.mark.parametrize("box", [0, 1, 2])
def test_a_point_shows_its_image_on_hover(maps: Visit, records: RunRecords, box: int) -> None:
    page, index = maps(), far_from_others(records, ("pca", "tsne", "umap")[box])
    assert not page.find_elements("css selector", ".cloud .tip:not([hidden])")
    move(page, box, index)
    row = drawn(records)[index]
    assert text_of(page, ".told") == described(records, row)
    (tip,) = page.find_elements("css selector", ".cloud .tip:not([hidden])")
    assert tip.is_displayed()
    shown = page.execute_script("return document.querySelector('.tip:not([hidden]) img').src")
    images = json.loads(page.execute_script("return document.getElementById('gallery-data').textContent"))["images"]
    assert shown == next(one["picture"] for one in images if one["row"] == row)
    assert page.execute_script("return document.querySelector('.tip:not([hidden]) img').naturalWidth") > 0
    assert page.execute_script("return document.querySelectorAll('.cloud [visibility=visible]').length") == 3
    page.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 2, "y": 2})
    assert not page.find_elements("css selector", ".cloud .tip:not([hidden])")
    assert text_of(page, ".told") == ""
    assert page.get_log("browser") == []


def test_arrow_keys_go_to_the_side_they_name_and_page_keys_through_all(maps: Visit, records: RunRecords) -> None:
    from selenium.webdriver.common.keys import Keys

    page = maps()
    box = start(page)
    assert box.get_attribute("class") == "cloud"
    assert box.get_attribute("aria-label").startswith("PCA map of 60 images")
    assert text_of(page, ".told") == described(records, drawn(records)[0])

    def at() -> tuple[float, float]:
        ring = page.find_element("css selector", ".cloud .here")
        return float(ring.get_attribute("cx")), float(ring.get_attribute("cy"))

    for key, axis, sign in ((Keys.ARROW_RIGHT, 0, 1), (Keys.ARROW_LEFT, 0, -1), (Keys.ARROW_DOWN, 1, 1)):
        box.send_keys(Keys.HOME)
        walk = [at()]
        for _ in range(200):
            box.send_keys(key)
            if at() == walk[-1]:
                break
            walk.append(at())
        assert len(walk) < 200
        assert all((other[axis] - one[axis]) * sign > 0 for one, other in pairwise(walk))
    box.send_keys(Keys.HOME)
    told = [text_of(page, ".told")]
    for _ in range(len(drawn(records))):
        box.send_keys(Keys.PAGE_DOWN)
        told.append(text_of(page, ".told"))
    assert told == [described(records, row) for row in [*drawn(records), drawn(records)[-1]]]
    box.send_keys(Keys.ESCAPE)
    assert text_of(page, ".told") == ""
    assert not page.find_elements("css selector", ".tip:not([hidden])")


def test_enter_and_click_open_the_gallery_and_the_focus_returns(maps: Visit, records: RunRecords) -> None:
    from selenium.webdriver.common.keys import Keys

    opened = "return document.querySelector('.gallery dialog[open]')?.dataset.row"
    page = maps()
    start(page).send_keys(Keys.PAGE_DOWN, Keys.ENTER)
    assert int(page.execute_script(opened)) == drawn(records)[1]
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert page.execute_script(opened) is None
    assert page.switch_to.active_element.get_attribute("class").startswith("cloud")
    index = far_from_others(records, "tsne")
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        move(page, 1, index, kind)
    assert int(page.execute_script(opened)) == drawn(records)[index]


def test_points_are_coloured_by_error(maps: Visit, records: RunRecords) -> None:
    page = maps()
    counts = {"right": 0, "miss": 0, "alarm": 0}
    for one in records.predictions:
        counts["right" if one.correct else "miss" if one.label else "alarm"] += 1
    choose = "const it = document.querySelector('.clouds select'); it.value = arguments[0];"
    page.execute_script(choose + "it.dispatchEvent(new Event('input', { bubbles: true }))", "error")
    paths = page.find_elements("css selector", ".cloud:has([aria-label^='PCA']) .recolour .dots")
    found = [path.get_attribute("d").count("M") for path in paths]
    assert found == [count for count in counts.values() if count]
    assert len(found) > 1
    assert not page.find_element("css selector", ".cloud .chart > .dots").is_displayed()
    legend = page.find_element("css selector", ".clouds [data-by]:not([hidden])").text
    assert "right at the threshold" in legend
    assert "crack" not in legend
    page.execute_script(choose + "it.dispatchEvent(new Event('input', { bubbles: true }))", "class")
    assert not page.find_elements("css selector", ".recolour")
    assert page.find_element("css selector", ".cloud .chart > .dots").is_displayed()
    assert "crack" in page.find_element("css selector", ".clouds [data-by]:not([hidden])").text


def test_a_picture_is_shown_before_and_after_pretraining_at_once(maps: Visit, records: RunRecords) -> None:
    page = maps()
    boxes = page.find_elements("css selector", ".clouds:not([data-rings]) .cloud")
    assert len(boxes) == 7  # four by PCA, three by t-SNE
    assert len([box for box in boxes if box.get_attribute("tabindex") == "0"]) == 2
    rows = [
        row
        for name in records.store.classes
        for row in records.snapshots["rows"]
        if records.store.samples[row].defect == name
    ]
    move(page, 3 + 2, 5)
    sample = records.store.samples[rows[5]]
    told = page.find_elements("css selector", ".told")[1].text
    assert told == f"{sample.image}: {sample.defect}"
    rings = page.find_elements("css selector", ".clouds:not([data-rings]) [visibility=visible] .here")
    assert len(rings) == 7
    chart = page.find_elements("css selector", ".clouds:not([data-rings]) .cloud svg")[2]
    drawn_at = [
        p for path in chart.find_elements("css selector", ".dots") for p in path.get_attribute("d").split("M")[1:]
    ]
    x, y = rings[2].get_attribute("cx"), rings[2].get_attribute("cy")
    assert drawn_at[5].startswith(f"{x} {y}")
    picture = "return document.querySelector('.clouds:not([data-rings]) .tip:not([hidden]) img').src"
    assert page.execute_script(picture).startswith("data:image/webp")
    assert not page.find_elements("css selector", "[data-rings] .tip:not([hidden])")


def test_rings_and_errors_follow_the_threshold(maps: Visit, records: RunRecords) -> None:
    page = maps()
    page.execute_script("document.querySelector('.clouds').scrollIntoView()")
    page.execute_script(
        "const it = document.querySelector('.clouds select'); it.value = 'error';"
        "it.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    rings = "return document.querySelector('.cloud .ring').getAttribute('d').split('M').length - 1"
    assert page.execute_script(rings) == sum(not one.correct for one in records.predictions)
    before = page.execute_script("return document.querySelector('.cloud .ring').getAttribute('d')")
    for threshold in (0.3, 0.62):
        page.execute_async_script(MOVE, threshold)
        misses = [one for one in records.predictions if one.label and one.score < threshold]
        alarms = [one for one in records.predictions if not one.label and one.score >= threshold]
        assert page.execute_script(rings) == len(misses) + len(alarms)
        counts = [60 - len(misses) - len(alarms), len(misses), len(alarms)]
        paths = page.find_elements("css selector", ".cloud:has([aria-label^='PCA']) .recolour .dots")
        assert [path.get_attribute("d").count("M") for path in paths] == [count for count in counts if count]
    page.execute_async_script(MOVE, 0.5)
    after = page.execute_script("return document.querySelector('.cloud .ring').getAttribute('d')")
    assert sorted(after.split("M")) == sorted(before.split("M"))


def test_without_the_gallery_and_with_two_splits_it_has_pictures_of_its_own(
    maps: Visit, run: Path, browser: Any, tmp_path: Path
) -> None:
    """Validation images, of which the gallery holds none, and a run whose gallery is turned off."""
    maps()
    for stage in ("prepare", "pretrain", "finetune", "evaluate"):
        (tmp_path / stage).symlink_to(run / stage)
    records = read_run(FAKE.recipe, run)
    others = [row for row, sample in enumerate(records.store.samples) if sample.split == "val"]
    table = [dict(row) for row in records.embeddings or []]
    for row in others:
        table.append(table[0] | {"row": str(row), "split": "val", "defect": records.store.samples[row].defect})
    (tmp_path / "evaluate").unlink()
    (tmp_path / "evaluate").mkdir()
    for path in (run / "evaluate").iterdir():
        if path.name != "embeddings.csv":
            (tmp_path / "evaluate" / path.name).symlink_to(path)
    with (tmp_path / "evaluate" / "embeddings.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)
    found = embeddings.section(read_run(FAKE.recipe, tmp_path), table, records.store.classes)
    assert [mode["key"] for mode in found["all"]["modes"]] == ["error", "split"]
    assert [name for name, _ in found["all"]["modes"][1]["legend"]] == ["validation", "test"]
    assert found["images"] == f"60 test images and {len(others)} validation images"
    trained = {str(row) for row in records.snapshots["rows"]}
    assert set(json.loads(found["own"])) == {str(row) for row in others} | trained
    errors = json.loads(found["all"]["data"])["modes"]["error"]
    assert len(errors) == 60 + len(others)
    assert max(errors) < 3  # validation images are judged as well
    off = FAKE.recipe.report.model_copy(update={"gallery": "none"})
    report(FAKE.recipe.model_copy(update={"report": off}), tmp_path, tmp_path / "report")
    browser.get((tmp_path / "report" / "index.html").as_uri())
    assert not browser.find_elements("css selector", ".gallery")
    start(browser)
    picture = "return document.querySelector('.tip:not([hidden]) img').src"
    assert browser.execute_script(picture).startswith("data:image/webp")
    assert "score 0." in text_of(browser, ".told")
    assert browser.get_log("browser") == []


def test_readers_without_script_and_paper_get_the_figures_alone(maps: Visit) -> None:
    for settings in ({"script": False}, {"media": "print"}):
        page = maps(**settings)
        assert page.find_element("css selector", ".cloud svg").is_displayed()
        assert not page.find_element("css selector", ".clouds .tools").is_displayed()
        assert page.find_element("css selector", ".clouds .legend").is_displayed()
        assert len(page.find_elements("css selector", ".cloud .dots")) >= 9


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1280, True), (3840, False)])
def test_contrast_room_and_axe(maps: Visit, width: int, dark: bool) -> None:
    page = maps(width=width, dark=dark)
    start(page)
    assert page.find_element("css selector", ".tip:not([hidden])").is_displayed()
    assert page.execute_script(CONTRAST) == []
    assert page.execute_script(OVERFLOW) == []
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    spec = find_spec("axe_core_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axe-core-python is not installed")
    page.execute_script((Path(next(iter(spec.submodule_search_locations))) / "axe.min.js").read_text(encoding="utf-8"))
    found = page.execute_async_script("axe.run('#embeddings').then(arguments[arguments.length - 1])")
    faults = [one["id"] for one in found["violations"] if one["impact"] in {"serious", "critical"}]
    assert faults == []
