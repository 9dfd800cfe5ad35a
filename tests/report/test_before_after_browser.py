"""Before and after fine-tuning in a real Chromium: the same images in the same colours, pointed at in all maps."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from before_records import add_before
from fabricated_run import Fake, build
from test_browser import CONTRAST, OVERFLOW
from test_embeddings_browser import described, drawn, move, text_of

from ssl_defect.report.records import RunRecords, read_run
from ssl_defect.report.stage import report

pytestmark = pytest.mark.browser

FAKE = Fake(count=120, defects=("crack", "stain"), snapshots=False)
Visit = Callable[..., Any]
MAPS = 6  # PCA, t-SNE and UMAP, each before and after
COLOUR = """
const it = document.querySelector('.clouds select');
it.value = arguments[0];
it.dispatchEvent(new Event('input', { bubbles: true }));
"""
# Of every map, each path that is seen: its classes, its colour, and which images it draws by their order.
SEEN = """
return [...document.querySelectorAll('.cloud svg')].map((chart) => [...chart.querySelectorAll('.dots')]
  .filter((path) => getComputedStyle(path).display !== 'none')
  .map((path) => [path.getAttribute('class'), getComputedStyle(path).fill, getComputedStyle(path).stroke,
    path.getAttribute('d').split('M').length - 1]));
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    build(folder, FAKE)
    add_before(folder)
    report(FAKE.recipe, folder, folder / "report")
    return folder


@pytest.fixture(scope="module")
def records(run: Path) -> RunRecords:
    return read_run(FAKE.recipe, run)


def rects(page: Any) -> list[dict[str, float]]:
    found: list[dict[str, float]] = page.execute_script(
        "return [...document.querySelectorAll('.cloud')].map((box) => box.getBoundingClientRect().toJSON())"
    )
    return found


def test_both_draw_the_same_images_in_the_same_colours(maps: Visit, records: RunRecords) -> None:
    page = maps()
    data = json.loads(page.execute_script("return document.querySelector('.points').textContent"))
    assert data["rows"] == drawn(records)
    for mode in ("class", "error"):
        page.execute_script(COLOUR, mode)
        seen = page.execute_script(SEEN)
        assert len(seen) == MAPS
        assert all(one == seen[0] for one in seen)
        assert sum(count for *_, count in seen[0]) == len(drawn(records))
        assert len({(fill, stroke) for _, fill, stroke, _ in seen[0]}) == len(seen[0]) > 1


@pytest.mark.parametrize("box", [0, 1, 4])
def test_a_point_is_ringed_before_and_after(maps: Visit, records: RunRecords, box: int) -> None:
    page = maps()
    move(page, box, 7)
    told = text_of(page, ".told")
    at = next(i for i, row in enumerate(drawn(records)) if described(records, row) == told)
    rings = page.find_elements("css selector", ".cloud [visibility=visible] .here")
    assert len(rings) == MAPS
    for ring, chart in zip(rings, page.find_elements("css selector", ".cloud svg.chart"), strict=True):
        paths = chart.find_elements("css selector", ":scope > .dots")
        places = [place for path in paths for place in path.get_attribute("d").split("M")[1:]]
        assert places[at].startswith(f"{ring.get_attribute('cx')} {ring.get_attribute('cy')}m")
    (tip,) = page.find_elements("css selector", ".cloud .tip:not([hidden])")
    assert tip.find_element("css selector", "img").is_displayed()
    assert page.execute_script(
        "return arguments[0].closest('.cloud') === document.querySelectorAll('.cloud')[arguments[1]]", tip, box
    )
    assert page.get_log("browser") == []


def test_every_map_is_reached_and_walked_by_keyboard(maps: Visit, records: RunRecords) -> None:
    from selenium.webdriver.common.keys import Keys

    page = maps()
    page.find_element("css selector", ".clouds select").send_keys(Keys.TAB)
    names = []
    for _ in range(MAPS):
        box = page.switch_to.active_element
        names.append(box.get_attribute("aria-label").split(" map of 60 images")[0])
        box.send_keys(Keys.END)
        assert text_of(page, ".told") == described(records, drawn(records)[-1])
        box.send_keys(Keys.TAB)
    assert names == [
        f"{name} ({when} fine-tuning)" for name in ("PCA", "t-SNE", "UMAP") for when in ("before", "after")
    ]


def test_before_stands_above_after_or_beside_it(maps: Visit) -> None:
    for width, columns in ((1280, 3), (800, 2), (360, 1)):
        places = rects(maps(width=width))
        assert len({round(place["left"]) for place in places}) == columns
        assert all(place["width"] >= 200 and place["right"] <= width for place in places)
        for before, after in zip(places[::2], places[1::2], strict=True):
            above = before["left"] == after["left"] and before["bottom"] <= after["top"]
            beside = before["top"] == after["top"] and before["right"] <= after["left"]
            assert above or beside


def test_without_script_and_on_paper_all_six_are_there(maps: Visit) -> None:
    for settings in ({"script": False}, {"media": "print"}):
        page = maps(**settings)
        boxes = page.find_elements("css selector", ".cloud svg")
        assert len(boxes) == MAPS
        assert all(box.is_displayed() for box in boxes)
        headings = [one.text for one in page.find_elements("css selector", ".beside h4")]
        assert headings == ["before fine-tuning", "after fine-tuning"] * 3
        assert "0.61" in page.find_element("css selector", "[data-test=change]").text
        assert not page.find_element("css selector", ".clouds .tools").is_displayed()


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_contrast_room_and_axe(maps: Visit, width: int, dark: bool) -> None:
    page = maps(width=width, dark=dark)
    assert page.execute_script(CONTRAST) == []
    assert page.execute_script(OVERFLOW) == []
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    spec = find_spec("axe_core_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axe-core-python is not installed")
    page.execute_script((Path(next(iter(spec.submodule_search_locations))) / "axe.min.js").read_text(encoding="utf-8"))
    found = page.execute_async_script("axe.run('#embeddings').then(arguments[arguments.length - 1])")
    faults = [one["id"] for one in found["violations"] if one["impact"] in {"moderate", "serious", "critical"}]
    assert faults == []
