"""Fabricated runs, reported, and a headless Chromium to read them with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fabricated_run import Fake, build
from read_page import Page

from ssl_defect.report.stage import report

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def make_page(tmp_path: Path) -> Callable[[Fake], Page]:
    """Fabricate a run, report it, and read the page."""

    def make(fake: Fake) -> Page:
        recipe = build(tmp_path, fake)
        report(recipe, tmp_path, tmp_path / "report")
        return Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))

    return make


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reported run that the module's `FAKE` describes."""
    folder = tmp_path_factory.mktemp("run")
    report(build(folder, request.module.FAKE), folder, folder / "report")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not (Path(CHROMIUM).exists() and Path(DRIVER).exists()):
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    profile = tmp_path_factory.mktemp("profile")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.execute_cdp_cmd("Network.enable", {})
    driver.get("about:blank")  # the browser's own first page would go on fetching its pictures into our log
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def visit(browser: Any, run: Path) -> Iterator[Callable[..., Any]]:
    """Open the report of `run`, a fixture of the module, at a width, on a medium, in the dark, without script."""
    from selenium.webdriver.support.ui import WebDriverWait

    def go(width: int = 1280, media: str = "", dark: bool = False, script: bool = True) -> Any:
        command = browser.execute_cdp_cmd
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        command("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        command("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
        command("Emulation.setScriptExecutionDisabled", {"value": not script})
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get((run / "report" / "index.html").as_uri())
        # on a busy machine `get` can come back while the page is still being read
        WebDriverWait(browser, 60).until(lambda page: page.execute_script("return document.readyState") == "complete")
        return browser

    yield go
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.fixture
def maps(visit: Callable[..., Any]) -> Callable[..., Any]:
    """`visit`, and no smooth scrolling: what is pointed at stays where it was measured."""

    def go(**settings: Any) -> Any:
        page = visit(**settings)
        page.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
        return page

    return go
