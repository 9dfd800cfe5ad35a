"""Fabricated runs, reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fabricated_run import Fake, build
from read_page import Page

from ssl_defect.report.stage import report


@pytest.fixture
def make_page(tmp_path: Path) -> Callable[[Fake], Page]:
    """Fabricate a run, report it, and read the page."""

    def make(fake: Fake) -> Page:
        recipe = build(tmp_path, fake)
        report(recipe, tmp_path, tmp_path / "report")
        return Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))

    return make
