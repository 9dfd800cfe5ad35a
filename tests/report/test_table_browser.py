"""The page of a table in a real Chromium: its answers first, every cell as in table.md; right for axe, too."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from comparable import make
from fabricated_run import NASTY_CLASS, Fake
from test_browser import CONTRAST, OVERFLOW

from ssl_defect.compare.page import compare
from ssl_defect.table.answer import plain
from ssl_defect.table.average import means_of
from ssl_defect.table.expand import cells_of
from ssl_defect.table.forest import forest
from ssl_defect.table.layout import grids
from ssl_defect.table.measure import measure
from ssl_defect.table.page import lead, marked
from ssl_defect.table.results import Results, judge
from ssl_defect.table.settings import TableSettings

pytestmark = pytest.mark.browser

Visit = Callable[..., Any]
FAKE = Fake(count=120, gradcam=0, embeddings=False, views=False, snapshots=False)
METRICS = ["pixel ap", "image auroc"]
STARTS = ("none", NASTY_CLASS)
ANSWERS = [f"labels 5: **{NASTY_CLASS}** is best. That detector: `ssl-defect predict 'a b' PICTURES`.", "Half a `mark."]
NOTES = ["Means ± <b>standard</b> deviation.", "▲ better"]
TABLE = TableSettings.model_validate(
    {
        "name": "starts",
        "description": "Two <starts> & two `budgets`.",
        "base": {},
        "matrix": {"start": {name: {} for name in STARTS}, "labels": {"5": {}, "10": {}}},
        "baseline": {"start": "none"},
        "columns": ["labels"],
        "average": {"labels": [5, 10]},
        "metrics": METRICS,
    }
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Two seeds of each cell."""
    root, cells = tmp_path_factory.mktemp("runs"), cells_of(TABLE)
    return {
        cell.name: [
            make(root / f"{cell.name}-seed{seed}", FAKE, 0.2 + 0.3 * (cell.labels["start"] != "none"), 10 * i + seed)
            for seed in (0, 1)
        ]
        for i, cell in enumerate(cells)
    }


@pytest.fixture(scope="module")
def results(folders: dict[str, list[Path]]) -> Results:
    cells = cells_of(TABLE)
    found = {cell.name: measure(cell, list(enumerate(folders[cell.name])), METRICS) for cell in cells}
    return judge(TABLE, [*cells, *means_of(TABLE, cells)], found, {}, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, list[Path]], results: Results) -> Path:
    """A folder whose `report/index.html` is the page of the table, where `visit` looks for it."""
    folder = tmp_path_factory.mktemp("page")
    drawings = [forest(results, metric) for metric in METRICS]
    above = lead(results, ANSWERS, NOTES, drawings)
    compare([path for some in folders.values() for path in some], folder / "report", lead=above)
    return folder


def test_what_it_answers_comes_first(visit: Visit) -> None:
    page = visit(script=False)
    assert page.title == "starts · ssl-defect"
    assert page.find_element("tag name", "h1").text == "starts"
    assert (
        "Two <starts> & two budgets. 8 runs, compared one by one below."
        in page.find_element("css selector", "header").text
    )
    assert page.find_element("css selector", "main section").get_attribute("id") == "answer"
    items = page.find_elements("css selector", '[data-test="answers"] li')
    assert [item.text for item in items] == [plain(ANSWERS[0]).replace("`", ""), ANSWERS[1]]
    assert [one.text for one in items[0].find_elements("tag name", "code")] == ["ssl-defect predict 'a b' PICTURES"]
    assert [one.text for one in page.find_elements("css selector", ".measured li")] == NOTES
    links = [one.get_attribute("href").split("#")[1] for one in page.find_elements("css selector", "nav a")]
    assert links[:4] == ["answer", "differences", "table", "verdict-set1"]
    assert all(page.find_elements("id", place) for place in links)


def test_below_its_answers_stands_no_other_verdict(visit: Visit) -> None:
    page = visit(script=False)
    below = page.find_element("id", "verdict-set1")
    assert below.find_element("tag name", "h2").text.lower() == "tested on"
    assert not page.find_elements("css selector", '[data-test="headline"], #verdict-set1 svg')
    assert below.find_element("css selector", ".chips").is_displayed()


def test_a_table_that_answers_nothing_keeps_the_verdict(
    folders: dict[str, list[Path]], results: Results, tmp_path: Path
) -> None:
    runs = [path for some in folders.values() for path in some]
    html = compare(runs, tmp_path, lead=lead(results, [], NOTES, [])).read_text(encoding="utf-8")
    assert html.count('data-test="headline"') == 1
    assert ">Verdict</h2>" in html


def test_every_cell_stands_on_it_as_in_the_other_forms(visit: Visit, results: Results) -> None:
    page = visit()
    page.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tables = page.find_elements("css selector", "table.grid")
    first = [one for one in grids(results) if one.caption.startswith("pixel ap")]
    wanted = [*first, *(one for one in grids(results) if one not in first)]
    assert len(tables) == len(wanted)
    for table, grid in zip(tables, wanted, strict=True):
        script = "return [...arguments[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
        heads, *rows = page.execute_script(script, table)
        assert table.find_element("tag name", "caption").text == grid.caption
        assert heads == grid.heads
        assert rows == [[one.text for one in row] for row in grid.rows]
        strong = [[bool(cell.find_elements("tag name", "strong")) for cell in row.find_elements("tag name", "td")]
                  for row in table.find_elements("css selector", "tbody tr")]  # fmt: skip
        assert strong == [[one.strong for one in row[grid.side :]] for row in grid.rows]
    assert any(one.strong for grid in wanted for row in grid.rows for one in row)


def test_the_first_metric_is_open_and_others_are_folded(visit: Visit) -> None:
    page = visit()
    shown = [one.text for one in page.find_elements("css selector", "table.grid caption") if one.is_displayed()]
    assert shown == ["pixel ap", "pixel ap: difference from none"]
    folded = [one.text for one in page.find_elements("css selector", "#table summary")]
    assert folded == ["image auroc", "image auroc: difference from none", "cost, mean over seeds"]
    assert len(page.find_elements("css selector", ".forest svg")) == 2


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_enough_contrast(visit: Visit, dark: bool) -> None:
    assert visit(dark=dark).execute_script(CONTRAST) == []


@pytest.mark.parametrize("width", [360, 768, 3840])
def test_nothing_overflows(visit: Visit, width: int) -> None:
    page = visit(width=width)
    assert page.execute_script(OVERFLOW) == []
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_axe_finds_no_fault(visit: Visit) -> None:
    spec = find_spec("axe_core_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axe-core-python is not installed")
    page = visit()
    page.execute_script((Path(next(iter(spec.submodule_search_locations))) / "axe.min.js").read_text(encoding="utf-8"))
    page.execute_script("document.querySelectorAll('.contested').forEach((one) => one.remove())")  # another's test
    found = page.execute_async_script("axe.run(document).then(arguments[0])")
    assert len(found["passes"]) > 20
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found["violations"]] == []


def test_marks_come_in_pairs() -> None:
    assert marked("a `b<` c") == "a <code>b&lt;</code> c"
    assert marked("a `b<") == "a `b&lt;"
    assert marked("**<a>** `**` **b**") == "<strong>&lt;a&gt;</strong> <code>**</code> <strong>b</strong>"
    assert marked("**a** **b") == "**a** **b"
