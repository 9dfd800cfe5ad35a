"""Every relative link of the documents leads to a file, and to a heading of it where it names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "docs", "data", "reports", "experiments", "experiments/benchmarks", "experiments/results")
DOCUMENTS = sorted(page for folder in FOLDERS for page in (ROOT / folder).glob("*.md"))
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def headings(text: str) -> set[str]:
    """The anchors that GitHub gives the headings: lower case, spaces to dashes, other marks dropped."""
    lines = re.findall(r"^#+ +(.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in lines}


def broken(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = []
    for link in LINK.findall(FENCED.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in headings(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


def test_anchors_are_those_of_the_headings():
    text = "# One\n## `defect_seg`: 10 labels, *or* so?\n```\n# no heading\n```\n"
    assert headings(text) == {"one", "defect_seg-10-labels-or-so"}


def test_a_link_to_nowhere_is_found(tmp_path):
    (tmp_path / "a.md").write_text("# A\n[x](b.md) [y](a.md#a) [z](#b) [w](https://example.org/#q)\n", encoding="utf-8")
    assert broken(tmp_path / "a.md") == ["b.md", "#b"]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    assert broken(page) == []
