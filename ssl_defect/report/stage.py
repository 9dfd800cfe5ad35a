"""report: the records of a run to one self-contained page. The same records give the same bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ssl_defect.artifacts import atomic
from ssl_defect.config import Recipe
from ssl_defect.report import audit, gallery, learning, operating, protocol, results, verdict
from ssl_defect.report.numbers import counted, share, shown
from ssl_defect.report.records import RunRecords, read_run
from ssl_defect.report.templates import environment

HERE = Path(__file__).parent
PAGE = "index.html"

# The page in its order: anchor, heading, and what fills `parts/<anchor>.html.j2`.
SECTIONS: tuple[tuple[str, str, Callable[[RunRecords], dict[str, Any]]], ...] = (
    ("verdict", "Verdict", verdict.section),
    ("results", "Results", results.section),
    ("operating", "Operating point", operating.section),
    ("gallery", "Gallery", gallery.section),
    ("data", "Data", audit.section),
    ("embeddings", "Embeddings", learning.embeddings),
    ("learning", "Learning", learning.section),
    ("protocol", "Protocol", protocol.section),
)

STYLES = (
    "style.css.j2",
    "operating.css",
    "gallery.css",
    "embeddings.css",
    "explained.css",
)  # joined in this order, as are the scripts
SCRIPTS = ("script.js", "judging.js", "operating.js", "thumbs.js", "gallery.js", "embeddings.js", "links.js")


def report(recipe: Recipe, run: Path, out: Path) -> None:
    """Write `out/index.html` from `run/{prepare,pretrain,finetune,evaluate}`, and a large gallery's pictures beside it.

    Raises:
        UserError: a record that every run has is missing or damaged.
    """
    records = read_run(recipe, run)
    html = render(records)
    out.mkdir(parents=True, exist_ok=True)
    for name, data in gallery.files(records):
        path = out / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    with atomic(out / PAGE) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")


def render(records: RunRecords) -> str:
    """The page as a function of its records: no clock, no network, no chance."""
    recipe = records.recipe
    style, script = ("\n".join(_source(name) for name in names) for names in (STYLES, SCRIPTS))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=recipe.report.title or recipe.name,
            recipe=recipe,
            style=Markup(style),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            method=verdict.method_name(records.pretrain),
            metrics=records.metrics,
            level=verdict.level_name(records.metrics),
            beside=gallery.form_of(records) == "folder",
            sections=[(anchor, heading, fill(records)) for anchor, heading, fill in SECTIONS],
        )
    )


def template_digest() -> str:
    """SHA-256 (16 hex digits) over templates, style and script, for the stage's fingerprint."""
    whole = hashlib.sha256()
    for path in sorted([*HERE.rglob("*.j2"), *HERE.rglob("*.js"), *HERE.rglob("*.css")]):
        whole.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:16]


def _source(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8").strip()


@cache
def _environment() -> Environment:
    return environment([HERE], share=share, shown=shown, counted=counted)
