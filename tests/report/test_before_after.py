"""The page shows the test images before and after fine-tuning, and says only what evaluate measured of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from before_records import TOLD, add_before
from fabricated_run import NASTY_CLASS, Fake, build, metrics_of
from read_page import Page

from ssl_defect.artifacts import write_json
from ssl_defect.report.before import change
from ssl_defect.report.records import read_run
from ssl_defect.report.stage import render

FAKE = Fake(count=120, defects=("crack", NASTY_CLASS))


def page_of(run: Path, fake: Fake = FAKE) -> Page:
    return Page(render(read_run(fake.recipe, run)))


def clouds(page: Page) -> list[str]:
    """Text alternatives of the maps of the detector's features."""
    html = page.html[page.html.index("data-rings") :]
    return re.findall(r'class="chart scatter"[^>]*aria-label="([^"]*)"', html[: html.index("</script>")])


def test_each_projection_is_drawn_twice_and_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    build(tmp_path, FAKE)
    add_before(tmp_path)
    page = page_of(tmp_path)
    names = [alt.split(" of ")[0] + (" before" if "before fine-tuning" in alt else "") for alt in clouds(page)]
    assert names == ["PCA before", "PCA", "t-SNE before", "t-SNE", "UMAP before", "UMAP"]
    assert page_of(tmp_path).html == page.html
    assert NASTY_CLASS not in page.html


def test_the_sentence_holds_the_numbers_of_metrics_json(tmp_path: Path) -> None:
    build(tmp_path, FAKE)
    add_before(tmp_path)
    page = page_of(tmp_path)
    found = {path: (exact, text) for path, exact, text in page.figures if path.startswith("neighbours.")}
    assert {path.partition(".")[2]: float(exact) for path, (exact, _) in found.items()} == TOLD
    assert {text for _, text in found.values()} == {"5", "60", "0.61", "0.93"}
    sentence = [text for text, around in page.loose if any(facts.get("data-test") == "change" for _, facts in around)]
    assert not re.search(r"\d", "".join(sentence).replace("a little below 0.5", ""))
    assert "That describes the features" in page.text


def test_a_run_without_the_features_from_before_has_the_page_it_had(tmp_path: Path) -> None:
    build(tmp_path, FAKE)
    page = page_of(tmp_path)
    assert len(clouds(page)) == 3
    assert "before fine-tuning" not in page.text
    write_json(tmp_path / "evaluate" / "metrics.json", {**metrics_of(tmp_path), "neighbours": None})
    assert page_of(tmp_path).html == page.html


def test_a_projection_that_says_nothing_before_stands_alone_after(tmp_path: Path) -> None:
    build(tmp_path, FAKE)
    add_before(tmp_path, without=("tsne", "umap"))
    assert ["before" in alt for alt in clouds(page_of(tmp_path))] == [True, False, False, False]


@pytest.mark.parametrize("told", [None, {**TOLD, "before": None}, {**TOLD, "after": None}])
def test_what_was_not_measured_is_not_said(told: object) -> None:
    assert not change({"neighbours": told})
    assert not change({})


def test_no_embeddings_and_one_class_alone(tmp_path: Path) -> None:
    fake = Fake(embeddings=False)
    build(tmp_path, fake)
    assert "No embeddings" in page_of(tmp_path, fake).text
    fake = Fake(count=120, one_class=True)
    build(tmp_path / "one", fake)
    add_before(tmp_path / "one")
    assert len(clouds(page_of(tmp_path / "one", fake))) == 6
