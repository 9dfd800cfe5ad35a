"""The gallery in a real Chromium: it sorts, filters, blends and opens, by mouse and by keyboard; axe finds no fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fabricated_run import NASTY_CLASS, NASTY_IMAGE, Fake
from test_browser import CONTRAST, OVERFLOW

from ssl_defect.report.gallery import section
from ssl_defect.report.records import read_run
from ssl_defect.report.stage import report

pytestmark = pytest.mark.browser

FAKE = Fake(count=240, defects=("crack", "stain", NASTY_CLASS))
PAGE = 48
Visit = Callable[..., Any]
Images = list[dict[str, Any]]
SORTS: dict[str, tuple[Callable[[dict[str, Any]], Any], bool]] = {
    "worst": (lambda one: one["place"], False),
    "score": (lambda one: one["score"], True),
    "error": (lambda one: one["error"], True),
    "class": (lambda one: one["class"], False),
    "file": (lambda one: one["file"], False),
    "group": (lambda one: one["group"], False),
}


@pytest.fixture(scope="module")
def images(run: Path) -> Images:
    """What the page was given, in its order."""
    found: Images = json.loads(section(read_run(FAKE.recipe, run))["data"])["images"]
    return [one | {"place": place} for place, one in enumerate(found)]


@pytest.fixture
def gallery(visit: Visit) -> Visit:
    """`visit`, but it scrolls at once: the driver clicks where a thing is to be, not where it still glides."""

    def go(**settings: Any) -> Any:
        page = visit(**settings)
        page.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
        return page

    return go


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core (MPL-2.0), as a Python package ships it for tests."""
    spec = find_spec("axe_core_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axe-core-python is not installed")
    return (Path(next(iter(spec.submodule_search_locations))) / "axe.min.js").read_text(encoding="utf-8")


def rows(page: Any) -> list[int]:
    script = "return [...document.querySelectorAll('.thumbs .thumb')].map((one) => Number(one.dataset.row))"
    return [int(row) for row in page.execute_script(script)]


def all_rows(page: Any) -> list[int]:
    """Rows over all pages, leafing through them."""
    from selenium.webdriver.support.ui import WebDriverWait

    found = rows(page)
    while (more := page.find_element("css selector", ".gallery > .pager [data-page='1']")).is_enabled():
        if not more.is_displayed():
            break
        before = rows(page)
        more.click()
        # a click is done when the page has turned
        WebDriverWait(page, 20).until(lambda _, before=before: rows(page) != before)
        found += rows(page)
    return found


def choose(page: Any, name: str, value: str) -> None:
    page.execute_script(
        "const it = document.querySelector(`[data-tool='${arguments[0]}']`); it.value = arguments[1];"
        "it.dispatchEvent(new Event('input', { bubbles: true }));",
        name,
        value,
    )


def style(page: Any, selector: str, name: str) -> str:
    script = """
    const all = getComputedStyle(document.querySelector(arguments[0]));
    return arguments[1].startsWith("--") ? all.getPropertyValue(arguments[1]) : all[arguments[1]];
    """
    return str(page.execute_script(script, selector, name))


def opened(page: Any) -> int | None:
    found = page.execute_script("return document.querySelector('dialog[open]')?.dataset.row")
    return None if found is None else int(found)


def focused(page: Any) -> int | None:
    found = page.execute_script("return document.activeElement.dataset.row")
    return None if found is None else int(found)


def start(page: Any) -> Any:
    """Focus on the first image, by the only one of them that Tab reaches."""
    reached = page.find_elements("css selector", ".thumbs [tabindex='0']")
    assert len(reached) == 1
    page.execute_script("arguments[0].focus()", reached[0])
    return page.switch_to.active_element


def test_it_loads_without_error_or_request(gallery: Visit) -> None:
    page = gallery()
    assert page.get_log("browser") == []
    urls = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in urls if one["method"] == "Network.requestWillBeSent"]
    assert [url[-10:] for url in asked if not url.startswith("data:")] == ["index.html"]
    assert len(rows(page)) == PAGE
    broken = "return [...document.querySelectorAll('.thumbs img')].filter((one) => !one.naturalWidth).length"
    assert page.execute_script(broken) == 0
    assert page.find_element("css selector", ".gallery").is_displayed()
    assert not page.find_element("id", "mistakes").is_displayed()


@pytest.mark.parametrize("name", SORTS)
def test_it_sorts_as_python_does(gallery: Visit, images: Images, name: str) -> None:
    page, (key, falling) = gallery(), SORTS[name]
    for turned in (False, True):
        choose(page, "sort", name)
        wanted = sorted(images, key=key, reverse=falling != turned)
        assert [one["row"] for one in wanted] == all_rows(page)
        page.find_element("css selector", "[data-tool='turn']").click()


def test_it_filters_by_kind_class_name_and_doubt(gallery: Visit, images: Images) -> None:
    page = gallery()

    def status() -> str:
        return str(page.find_element("css selector", ".tally [role='status']").text)

    def expect(which: Callable[[dict[str, Any]], bool]) -> None:
        wanted = [one["row"] for one in images if which(one)]
        assert 0 < len(wanted) < len(images)
        assert all_rows(page) == wanted
        assert status() == f"{len(wanted)} of {len(images)} images"

    for kind in ("hit", "good"):
        page.find_element("css selector", f"[data-kind='{kind}']").click()
    expect(lambda one: one["kind"] in {"miss", "alarm"})
    for kind in ("hit", "good"):
        page.find_element("css selector", f"[data-kind='{kind}']").click()
    choose(page, "class", NASTY_CLASS)
    expect(lambda one: one["class"] == NASTY_CLASS)
    choose(page, "class", "")
    page.find_element("css selector", "[data-tool='find']").send_keys("PART/00")
    expect(lambda one: one["file"].startswith("part/00"))
    page.find_element("css selector", "[data-tool='find']").clear()
    page.find_element("css selector", "[data-tool='doubted']").click()
    expect(lambda one: bool(one["doubts"]))
    choose(page, "find", "no such file")
    assert rows(page) == []
    assert status() == "No image fits"


def test_layers_blend(gallery: Visit) -> None:
    from selenium.webdriver.common.keys import Keys

    page = gallery()
    choose(page, "class", "crack")
    for layer, before in (("heat", 0.75), ("picture", 1.0)):
        assert float(style(page, f".thumbs .layer-{layer}", "opacity")) == before
        page.find_element("css selector", f".tools [data-layer='{layer}']").send_keys(Keys.ARROW_LEFT * 3)
        assert float(style(page, f".thumbs .layer-{layer}", "opacity")) == pytest.approx(before - 0.15)
    for layer, drawn in (("mask", ".true"), ("contour", ".found")):
        assert style(page, f".thumbs {drawn}", "display") == "inline"
        page.find_element("css selector", f".tools [data-layer='{layer}']").click()
        assert style(page, f".thumbs {drawn}", "display") == "none"


def test_the_keyboard_goes_through_the_grid(gallery: Visit, images: Images) -> None:
    from selenium.webdriver.common.keys import Keys

    page = gallery()
    start(page).send_keys(Keys.ARROW_RIGHT * 2)
    assert focused(page) == images[2]["row"]
    across = len(style(page, ".thumbs", "gridTemplateColumns").split())
    assert across > 3
    page.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert focused(page) == images[2 + across]["row"]
    page.switch_to.active_element.send_keys(Keys.ARROW_UP, Keys.ARROW_LEFT)
    assert focused(page) == images[1]["row"]
    assert style(page, ":focus", "outlineStyle") == "solid"
    assert float(style(page, ":focus", "outlineWidth").removesuffix("px")) >= 2
    page.switch_to.active_element.send_keys(Keys.END)
    assert focused(page) == images[-1]["row"]
    page.switch_to.active_element.send_keys(Keys.HOME)
    assert focused(page) == images[0]["row"]


def test_enter_opens_arrows_go_on_and_escape_returns_the_focus(gallery: Visit, images: Images) -> None:
    from selenium.webdriver.common.keys import Keys

    page = gallery()
    start(page).send_keys(Keys.ENTER)
    assert opened(page) == images[0]["row"]
    assert page.find_element("css selector", "dialog .place").text == f"1 of {len(images)}"
    assert page.find_element("id", "large-name").text == images[0]["file"]
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT * (PAGE - 1))
    assert focused(page) == images[PAGE - 1]["row"]
    page.switch_to.active_element.send_keys(Keys.ENTER)
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT):
        page.switch_to.active_element.send_keys(key)
    assert opened(page) == images[PAGE]["row"]
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert opened(page) is None
    assert focused(page) == images[PAGE]["row"]
    assert rows(page)[0] == images[PAGE]["row"]


def test_letters_switch_layers_but_not_while_one_types(gallery: Visit) -> None:
    page = gallery()
    page.find_element("css selector", "[data-tool='find']").send_keys("hmc")
    assert style(page, ".gallery", "--heat") == "0.75"
    choose(page, "find", "")
    for place in ("grid", "dialog"):
        active = start(page)
        if place == "dialog":
            active.click()
        page.switch_to.active_element.send_keys("hmc")
        assert style(page, ".gallery", "--heat") == "0"
        assert page.find_elements("css selector", ".gallery.no-mask.no-contour")
        assert not page.find_element("css selector", ".tools [data-layer='mask']").is_selected()
        page.switch_to.active_element.send_keys("hmc")
        assert style(page, ".gallery", "--heat") == "0.75"
        assert page.find_element("css selector", "dialog [data-layer='mask']").get_property("checked")
    keys = {one.get_attribute("textContent") for one in page.find_elements("css selector", "kbd")}
    assert {"h", "m", "c", "Enter", "Esc"} <= keys


def test_marks_and_the_way_to_near_copies(gallery: Visit, images: Images) -> None:
    page = gallery()
    one = next(one for one in images if sum(one["group"] == other["group"] for other in images) == 2)
    other = next(other for other in images if other["group"] == one["group"] and other is not one)
    choose(page, "find", one["file"])
    (thumb,) = page.find_elements("css selector", ".thumb")
    assert f"group {one['group']}: 2 copies" in thumb.text
    thumb.click()
    page.find_element("css selector", f"dialog .copies [data-row='{other['row']}']").click()
    assert opened(page) == other["row"]
    assert page.find_element("css selector", "dialog .place").text == "not among those chosen"
    page.find_elements("css selector", "dialog .copies button")[-1].click()
    assert opened(page) is None
    assert sorted(rows(page)) == sorted([one["row"], other["row"]])
    page.find_element("css selector", "[data-tool='ungroup']").click()
    assert len(all_rows(page)) == len(images)


def test_suspected_label_errors_are_marked(gallery: Visit, images: Images) -> None:
    page = gallery()
    doubted = next(one for one in images if one["doubts"])
    sure = next(one for one in images if not one["doubts"])
    for one, count in ((doubted, 1), (sure, 0)):
        choose(page, "find", one["file"])
        assert len(page.find_elements("css selector", ".thumb .flag:not([hidden])")) == count
    choose(page, "find", doubted["file"])
    page.find_element("css selector", ".thumb").click()
    assert page.find_element("css selector", "dialog .flag").text == doubted["doubts"][0]


def test_nasty_names_are_text(gallery: Visit, images: Images) -> None:
    page = gallery()
    one = next(one for one in images if one["file"] == NASTY_IMAGE)
    choose(page, "find", NASTY_IMAGE)
    page.find_element("css selector", ".thumb").click()
    assert opened(page) == one["row"]
    assert page.find_element("id", "large-name").text == NASTY_IMAGE
    choose(page, "class", NASTY_CLASS)
    names = {found.text for found in page.find_elements("css selector", ".thumb .class")}
    assert names <= {NASTY_CLASS}
    assert page.execute_script("return document.querySelectorAll('[onerror], img[src=x], .gallery script').length") == 0
    assert page.get_log("browser") == []


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_enough_with_the_dialog_open(gallery: Visit, dark: bool) -> None:
    page = gallery(dark=dark)
    start(page).click()
    assert page.execute_script(CONTRAST) == []


@pytest.mark.parametrize("width", [360, 3840])
def test_nothing_overflows_with_the_dialog_open(gallery: Visit, width: int) -> None:
    page = gallery(width=width)
    start(page).click()
    assert page.execute_script(OVERFLOW) == []
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_paper_and_readers_without_script_get_the_worst_mistakes(gallery: Visit) -> None:
    for settings in ({"media": "print"}, {"script": False}):
        page = gallery(**settings)
        assert page.find_element("id", "mistakes").is_displayed()
        assert not page.find_element("css selector", ".gallery").is_displayed()
        assert len(page.find_elements("css selector", "#mistakes .shot")) > 10


def test_a_folder_of_pictures_is_read_from_files(gallery: Visit, run: Path, browser: Any, tmp_path: Path) -> None:
    gallery()
    beside = FAKE.recipe.report.model_copy(update={"gallery": "folder"})
    report(FAKE.recipe.model_copy(update={"report": beside}), run, tmp_path)
    for missing in (False, True):
        browser.get_log("browser")
        browser.get((tmp_path / "index.html").as_uri())
        broken = "return [...document.querySelectorAll('.thumbs img')].filter((one) => !one.naturalWidth).length"
        assert (browser.execute_script(broken) > 0) == missing
        assert browser.find_element("css selector", "[data-lost]").is_displayed() == missing
        assert missing or browser.get_log("browser") == []
        shutil.rmtree(tmp_path / "pictures", ignore_errors=True)


@pytest.mark.parametrize("large", [False, True])
def test_axe_finds_no_serious_fault(gallery: Visit, axe: str, large: bool) -> None:
    page = gallery(dark=large)
    if large:
        start(page).click()
    page.execute_script(axe)
    found = page.execute_async_script("axe.run(document).then(arguments[0])")
    assert len(found["passes"]) > 20
    serious = [
        (one["id"], one["impact"], [node["target"] for node in one["nodes"]][:3])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == []


def test_axe_would_see_a_fault(gallery: Visit, axe: str) -> None:
    page = gallery()
    page.execute_script(axe)
    page.execute_script("document.querySelector('.thumbs button').replaceChildren()")
    found = page.execute_async_script("axe.run('.thumbs').then(arguments[0])")
    assert "button-name" in {one["id"] for one in found["violations"] if one["impact"] == "critical"}
