"""The comparison in a real Chromium: it sorts, fetches nothing, is right in the dark, on paper, on a phone, for axe."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from comparable import make
from fabricated_run import NASTY_CLASS, Fake
from test_browser import CONTRAST, OVERFLOW

from ssl_defect.compare.measure import recorded
from ssl_defect.compare.page import compare
from ssl_defect.compare.runs import read_runs

pytestmark = pytest.mark.browser

Visit = Callable[..., Any]
FAKE = Fake(count=120, defects=("crack", NASTY_CLASS), gradcam=0, embeddings=False, views=False, snapshots=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two initialisations with two budgets each, one of them without maps' quality, and a run on other images."""
    root = tmp_path_factory.mktemp("runs")
    found = [
        make(root / f"{method}-{budget}", FAKE, shift, budget, method, finetune=labelled(budget))
        for method, budget, shift in (("none", 5, 0.0), ("none", 10, 0.2), ("simclr", 5, 0.25), ("simclr", 10, 0.5))
    ]
    return [*found, make(root / NASTY_CLASS.replace("/", ""), Fake(count=60, gradcam=0), 0.3)]


def labelled(budget: int) -> dict[str, Any]:
    return {"task": "segmentation", "labels_per_class": budget}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, folders: list[Path]) -> Path:
    """A folder whose `report/index.html` is the comparison, where `visit` looks for it."""
    folder = tmp_path_factory.mktemp("page")
    compare(folders, folder / "report")
    return folder


def names(page: Any, table: str) -> list[str]:
    script = "return [...arguments[0].tBodies[0].rows].map((row) => row.cells[0].firstChild.textContent)"
    return [str(name) for name in page.execute_script(script, page.find_element("css selector", table))]


def press(page: Any, table: str, head: str) -> Any:
    script = "return [...arguments[0].tHead.rows[0].cells].findIndex((one) => one.textContent === arguments[1])"
    found = page.find_element("css selector", table)
    column = page.execute_script(script, found, head)
    cell = found.find_elements("css selector", "thead th")[column]
    page.execute_script("arguments[0].click()", cell.find_element("css selector", "button"))
    return cell


def test_it_loads_without_error_or_request(visit: Visit) -> None:
    page = visit()
    assert page.get_log("browser") == []
    urls = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in urls if one["method"] == "Network.requestWillBeSent"]
    assert [url[-10:] for url in asked if not url.startswith("data:")] == ["index.html"]
    assert page.execute_script("return document.querySelectorAll('script').length") == 1
    broken = "return [...document.images].filter((one) => !one.naturalWidth).length"
    assert page.execute_script(broken) == 0
    assert len(page.find_elements("css selector", ".contested")) > 3
    size = page.execute_script(
        "const box = document.querySelector('.side use').getBoundingClientRect(); return [box.width, box.height]"
    )
    assert min(size) > 40  # the shared picture is drawn under each detector


def test_tables_sort_by_figures_and_by_names(visit: Visit, folders: list[Path]) -> None:
    page, table = visit(), '[data-test="set1"] [data-test-table="runs"]'
    runs = read_runs(folders)[:4]
    assert names(page, table) == [one.name for one in sorted(runs, key=value_of, reverse=True)]
    head = press(page, table, "Labels per class")
    assert head.get_attribute("aria-sort") == "descending"
    assert [name[-2:] for name in names(page, table)] == ["10", "10", "-5", "-5"]
    press(page, table, "Labels per class")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [name[-2:] for name in names(page, table)] == ["-5", "-5", "10", "10"]
    press(page, table, "Image AUROC")
    wanted = sorted(runs, key=lambda one: -recorded(one, "image auroc")["value"])
    assert names(page, table) == [one.name for one in wanted]
    assert head.get_attribute("aria-sort") is None
    press(page, table, "Run")
    assert names(page, table) == ["none-5", "none-10", "simclr-5", "simclr-10"]


def value_of(run: Any) -> float:
    return float(recorded(run, "pixel ap")["value"])


def test_what_is_unknown_is_sorted_last_either_way(visit: Visit) -> None:
    page, table = visit(), '[data-test="set1"] [data-test-table="runs"]'
    script = "const cell = arguments[0].tBodies[0].rows[1].cells[6]; delete cell.dataset.sort;"
    unknown = names(page, table)[1]
    page.execute_script(script, page.find_element("css selector", table))
    for _ in range(2):
        press(page, table, "Pixel AP")
        assert names(page, table)[-1] == unknown


def test_it_is_whole_without_script(visit: Visit) -> None:
    page = visit(script=False)
    first = page.find_element("css selector", '[data-test="set1"] [data-test="headline"]')
    sentences = [one.text for one in first.find_elements("tag name", "li")]
    assert [text.split(" is best by pixel AP")[0] for text in sentences] == ["simclr-5", "simclr-10"]
    assert [f"from the baseline none-{budget} " in text for budget, text in zip((5, 10), sentences, strict=True)]
    assert "different sets of images" in page.find_element("css selector", '[data-test="apart"]').text
    assert page.find_element("css selector", "table.runs").is_displayed()
    assert not page.find_elements("css selector", "thead button")


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_enough_contrast(visit: Visit, dark: bool) -> None:
    assert visit(dark=dark).execute_script(CONTRAST) == []


@pytest.mark.parametrize("width", [360, 768, 3840])
def test_nothing_overflows(visit: Visit, width: int) -> None:
    page = visit(width=width)
    assert page.execute_script(OVERFLOW) == []
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_captions_stand_below_their_pictures(visit: Visit) -> None:
    overlap = """
    return [...document.querySelectorAll(".contested")].filter((one, number, all) => {
      const inside = [...one.querySelectorAll("figcaption")].map((words) => words.getBoundingClientRect().bottom);
      return Math.max(...inside) > one.getBoundingClientRect().bottom;
    }).length;
    """
    assert visit(width=1280).execute_script(overlap) == 0


def test_it_prints_in_black_on_white(visit: Visit) -> None:
    page = visit(media="print", dark=True)
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.find_element("css selector", "nav").is_displayed()
    assert len(page.print_page()) > 20_000


def test_axe_finds_no_fault(visit: Visit) -> None:
    spec = find_spec("axe_core_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axe-core-python is not installed")
    axe = (Path(next(iter(spec.submodule_search_locations))) / "axe.min.js").read_text(encoding="utf-8")
    page = visit()
    page.execute_script(axe)
    page.execute_script("document.querySelectorAll('.contested ~ .contested').forEach((one) => one.remove())")  # alike
    found = page.execute_async_script("axe.run(document).then(arguments[0])")
    assert len(found["passes"]) > 20
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found["violations"]] == []
