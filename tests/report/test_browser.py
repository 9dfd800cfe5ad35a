"""The page in a real Chromium: no error, nothing fetched, right in the dark, on paper, on a phone, without script."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fabricated_run import NASTY_CLASS, NASTY_IMAGE, Fake, build, metrics_of

from ssl_defect.report.stage import SECTIONS, report

pytestmark = pytest.mark.browser

CONTRAST = """
const linear = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const shade = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data]; };
const behind = (node) => { for (; node; node = node.parentElement) {
  const colour = rgba(getComputedStyle(node).backgroundColor); if (colour[3] === 255) return colour; }
  return [255, 255, 255, 255]; };
const bad = [];
for (const node of document.querySelectorAll("body *")) {
  const words = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!words || ["SCRIPT", "STYLE"].includes(node.tagName)) continue;
  const style = getComputedStyle(node);
  const ink = rgba(node instanceof SVGElement ? style.fill : style.color);
  const [high, low] = [shade(ink), shade(behind(node))].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < 4.5) bad.push(`${node.tagName}.${node.className} ${ratio.toFixed(2)} ${node.textContent.slice(0, 30)}`);
}
return bad;
"""
OVERFLOW = """
return [...document.querySelectorAll("body *")].filter((node) => {
  const box = node.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !node.closest(".scroll, nav, .skip");
}).map((node) => node.outerHTML.slice(0, 120));
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    recipe = build(folder, Fake(count=120, defects=("crack", "stain", NASTY_CLASS), source="elpv"))
    report(recipe, folder, folder / "report")
    return folder


def text_of(page: Any, selector: str) -> str:
    return str(page.find_element("css selector", selector).text)


def test_it_loads_without_error_or_request(visit: Callable[..., Any], run: Path) -> None:
    page = visit()
    assert page.get_log("browser") == []
    requests = [entry["message"] for entry in page.get_log("performance") if "requestWillBeSent" in entry["message"]]
    fetched = [text for text in requests if '"url":"data:' not in text and "index.html" not in text]
    assert requests
    assert fetched == []
    headings = [one.text for one in page.find_elements("css selector", "h2")]
    assert [text.lower() for text in headings] == [heading.lower() for _, heading, _ in SECTIONS]
    assert len(page.find_elements("css selector", "table")) >= 7


def test_shown_figures_are_those_of_metrics_json(visit: Callable[..., Any], run: Path) -> None:
    page, cells = visit(), metrics_of(run)["image"]["confusion"]
    shown = {key: text_of(page, f'[data-test-figure="image.confusion.{key}"]') for key in cells}
    assert shown == {key: str(value) for key, value in cells.items()}


def test_every_picture_is_decoded(visit: Callable[..., Any]) -> None:
    page = visit()
    broken = "return [...document.images].filter((one) => !one.complete || !one.naturalWidth).length"
    assert page.execute_script("return document.images.length") > 10
    assert page.execute_script(broken) == 0


def test_names_are_text_and_run_nothing(visit: Callable[..., Any]) -> None:
    page = visit()
    assert page.execute_script("return document.querySelectorAll('script:not([type])').length") == 1
    assert page.execute_script("return document.querySelectorAll('[onerror], img[src=x]').length") == 0
    assert NASTY_CLASS in text_of(page, '[data-test-table="classes"]')
    assert NASTY_IMAGE in page.execute_script("return document.body.textContent")


def test_dark_mode_changes_page_and_figures(visit: Callable[..., Any]) -> None:
    colours = """
    const of = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
    return [of("body", "backgroundColor"), of("body", "color"), of(".chart text", "fill"), of(".line.s0", "stroke")];
    """
    light = visit().execute_script(colours)
    dark = visit(dark=True).execute_script(colours)
    assert all(one != other for one, other in zip(light, dark, strict=True))


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_enough_contrast(visit: Callable[..., Any], dark: bool) -> None:
    assert visit(dark=dark).execute_script(CONTRAST) == []


@pytest.mark.parametrize("width", [360, 768, 1440, 3840])
def test_nothing_overflows(visit: Callable[..., Any], width: int) -> None:
    page = visit(width=width)
    assert page.execute_script(OVERFLOW) == []
    assert (
        page.execute_script("return innerWidth") == width
    )  # a phone zooms out, and is wider, where a page is too wide
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert page.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    used = page.execute_script("return document.querySelector('main').getBoundingClientRect().width") / width
    assert used > 0.6


@pytest.mark.parametrize("width", [360, 1440])
def test_wide_tables_scroll_in_a_box_of_their_own(visit: Callable[..., Any], width: int) -> None:
    page = visit(width=width)
    boxed = """
    return [...document.querySelectorAll("table")].filter((table) => table.getClientRects().length
      && table.scrollWidth > table.parentElement.clientWidth + 1 && !table.closest(".scroll"))
      .map((table) => table.outerHTML.slice(0, 80));
    """
    assert page.execute_script(boxed) == []
    if width == 360:
        moved = """
        const box = document.querySelector(".scroll:has([data-test-table=classes])");
        box.scrollLeft = 40;
        return [box.scrollWidth > box.clientWidth, box.scrollLeft, getComputedStyle(box).overflowX, box.tabIndex];
        """
        assert page.execute_script(moved) == [True, 40, "auto", 0]


@pytest.mark.parametrize("width", [360, 1440])
def test_the_sections_stand_in_one_line_and_the_present_one_is_in_view(visit: Callable[..., Any], width: int) -> None:
    page = visit(width=width)
    page.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    link = """
    const { top, bottom, left, right } = document.querySelector(arguments[0]).getBoundingClientRect();
    return { top, bottom, left, right };
    """
    first = page.execute_script(link, "nav a")
    for anchor, _, _ in SECTIONS:
        page.execute_script("document.getElementById(arguments[0]).scrollIntoView()", anchor)
        page.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(arguments[0], 50)))"
        )
        present = page.execute_script("return document.querySelector('nav a[aria-current]')?.hash")
        if anchor != "protocol":  # the last may be too short to come up
            assert present == f"#{anchor}"
        box = page.execute_script(link, f'nav a[href="{present}"]')
        assert box["left"] >= 0
        assert box["right"] <= width
        assert box["bottom"] - box["top"] == pytest.approx(first["bottom"] - first["top"])


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1440, False), (1440, True)])
def test_axe_finds_no_serious_fault_on_the_page(visit: Callable[..., Any], width: int, dark: bool) -> None:
    spec = find_spec("axe_core_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axe-core-python is not installed")
    page = visit(width=width, dark=dark)
    page.execute_script((Path(next(iter(spec.submodule_search_locations))) / "axe.min.js").read_text(encoding="utf-8"))
    found = page.execute_async_script("axe.run(document).then(arguments[arguments.length - 1])")
    assert len(found["passes"]) > 20
    serious = [
        (one["id"], [node["target"] for node in one["nodes"]][:3])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == []


def test_it_is_whole_without_script(visit: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    page = visit(script=False)
    assert "separates defective from good with AUROC 0.87" in text_of(page, '[data-test="headline"]')
    assert "CC BY-NC-SA 4.0" in text_of(page, '[data-test="licence"]')
    assert len(page.find_elements("css selector", "svg.chart")) > 8
    heat = page.find_element("css selector", ".layer-heat")
    assert heat.is_displayed()
    page.find_element("id", "show-heat").send_keys(Keys.SPACE)
    assert not heat.is_displayed()


def test_it_prints_in_black_on_white_with_the_recipe(visit: Callable[..., Any]) -> None:
    page = visit(media="print", dark=True)
    opened = page.execute_script("return document.querySelectorAll('details[open]').length")
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.execute_script("return getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert not page.find_element("css selector", "nav").is_displayed()
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert "image_size: 32" in text_of(page, ".recipe")
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    assert page.execute_script("return document.querySelectorAll('details[open]').length") == opened
    assert len(page.print_page()) > 20_000


def test_on_paper_nothing_is_cut_and_nothing_waits_for_a_hand(visit: Callable[..., Any]) -> None:
    page = visit(width=720, media="print", dark=True)  # about what A4 leaves between its margins
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    wide = """
    return [...document.querySelectorAll("body *")].filter((node) => {
      const box = node.getBoundingClientRect();
      return box.width && box.right > innerWidth + 1;
    }).map((node) => node.outerHTML.slice(0, 120));
    """
    assert page.execute_script(wide) == []
    hands = """
    return [...document.querySelectorAll("input, select, dialog, button, [role=application]")]
      .filter((node) => node.getClientRects().length && !node.closest("[data-op-threshold], .cloud"))
      .map((node) => node.outerHTML);
    """
    assert page.execute_script(hands) == []
    dark = """
    return [...document.querySelectorAll("body, body *")].filter((node) => {
      const [r, g, b, a] = [...getComputedStyle(node).backgroundColor.matchAll(/[\\d.]+/g)].map(Number);
      const box = node.getBoundingClientRect(); // signs and bars keep their colours
      return a !== 0 && r + g + b < 380 && box.width * box.height > 20000;
    }).map((node) => node.outerHTML.slice(0, 120));
    """
    assert page.execute_script(dark) == []
    kept = """
    return [...document.querySelectorAll("figure, .card, .shot")]
      .every((one) => getComputedStyle(one).breakInside === "avoid");
    """
    assert page.execute_script(kept)
    page.execute_script("dispatchEvent(new Event('afterprint'))")


def test_the_keyboard_reaches_the_sections(visit: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    page = visit()
    body = page.find_element("css selector", "body")
    body.send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("class") == "skip"
    page.switch_to.active_element.send_keys(Keys.TAB, Keys.TAB)
    assert page.switch_to.active_element.get_attribute("hash") == "#results"
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.current_url.endswith("#results")
