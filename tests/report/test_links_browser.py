"""Advice that names a test image opens it in the gallery; without script its picture stands below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabricated_run import Fake, build

from ssl_defect.report.stage import report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    recipe = build(folder, Fake(count=120, snapshots=False, embeddings=False))
    report(recipe, folder, folder / "report")
    return folder


OPENED = "const one = document.querySelector('.gallery dialog'); return one.open ? one.dataset.row : null"
FIRST = "document.querySelector('[data-test=steps] a[href^=\"#image-\"]')"


def test_a_named_image_opens_in_the_gallery(visit: Callable[..., Any]) -> None:
    page = visit()
    row = page.execute_script(f"return {FIRST}.hash.slice(7)")
    assert page.execute_script(OPENED) is None
    page.execute_script(f"{FIRST}.click()")
    assert page.execute_script(OPENED) == row
    assert page.get_log("browser") == []


def test_an_address_with_an_image_opens_it(visit: Callable[..., Any], run: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    page = visit()
    row = page.execute_script(f"return {FIRST}.hash.slice(7)")
    page.get("about:blank")
    page.get((run / "report" / "index.html").as_uri() + f"#image-{row}")
    # on a busy machine `get` comes back while the page is still being read
    assert WebDriverWait(page, 30).until(lambda now: now.execute_script(OPENED)) == row


def test_without_script_the_link_leads_to_the_pictures(visit: Callable[..., Any]) -> None:
    page = visit(script=False)
    link = page.find_element("css selector", '[data-test=steps] a[href^="#image-"]')
    (target,) = page.find_elements("id", link.get_attribute("href").partition("#")[2])
    assert target.find_element("xpath", "ancestor::div[contains(@class, 'still')]").is_displayed()
