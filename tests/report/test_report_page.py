"""The whole page, from a fabricated run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fabricated_run import NASTY_CLASS, NASTY_IMAGE, Fake, build, metrics_of
from read_page import Page

from ssl_defect.errors import UserError
from ssl_defect.report import protocol
from ssl_defect.report.records import read_run
from ssl_defect.report.stage import SECTIONS, report, template_digest

Make = Callable[[Fake], Page]


def test_the_verdict_gives_interval_and_rates(make_page: Make, tmp_path: Path) -> None:
    page = make_page(Fake(count=300))
    cells = metrics_of(tmp_path)["image"]["confusion"]
    alarms = 100 * cells["fp"] / (cells["fp"] + cells["tn"])
    found = 100 * cells["tp"] / (cells["tp"] + cells["fn"])
    assert (
        "On 150 unseen images this detector separates defective from good with AUROC 0.87 (95% interval 0.82 to 0.92). "
        f"At the threshold chosen on validation it finds {found:.0f}% of the defective parts and raises {alarms:.0f} "
        "false alarms per 100 good ones."
    ) in page.text
    assert "ssl-defect predict reports/" in page.text
    assert (
        "SimCLR, 5 epochs from random weights, moved the kNN AUROC on validation from 0.61 to 0.75 (+0.14)" in page.text
    )


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("ssl-defect run a.yaml", "reports/fabricated"),
        ("ssl-defect run a.yaml --out 'my runs/a'", "'my runs/a'"),
        ("ssl-defect run a.yaml --out=b --set seed=1", "b"),
        ("ssl-defect table a.yaml --out b", "FOLDER_OF_THIS_RUN"),
    ],
)
def test_the_line_that_uses_the_detector_names_its_folder(tmp_path: Path, command: str, folder: str) -> None:
    records = read_run(build(tmp_path, Fake()), tmp_path)
    stages = {name: record and replace(record, command=command) for name, record in records.stages.items()}
    records = replace(records, recipe=records.recipe.model_copy(update={"name": "fabricated"}), stages=stages)
    assert protocol.section(records)["use"] == f"ssl-defect predict {folder} NEW_PICTURES --out predictions"


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    recipe = build(tmp_path, Fake())
    report(recipe, tmp_path, tmp_path / "one")
    report(recipe, tmp_path, tmp_path / "two")
    assert (tmp_path / "one" / "index.html").read_bytes() == (tmp_path / "two" / "index.html").read_bytes()
    metrics = metrics_of(tmp_path)
    metrics["image"]["auroc"]["value"] = 0.5
    (tmp_path / "evaluate" / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    report(recipe, tmp_path, tmp_path / "two")
    assert (tmp_path / "one" / "index.html").read_bytes() != (tmp_path / "two" / "index.html").read_bytes()


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_names_from_files_are_text(make_page: Make, task: str) -> None:
    defects = ("crack", NASTY_CLASS, '{{ 7 * 7 }}" onload="alert(1)')
    sections = {"description": NASTY_IMAGE, "report": {"title": NASTY_CLASS}}
    page = make_page(Fake(task=task, defects=defects, sections=sections))
    kinds = [facts.get("type", "") for tag, facts in page.tags if tag == "script"]
    assert kinds.count("") == 1
    assert set(kinds) <= {"", "application/json"}
    assert not [facts for _, facts in page.tags for key in facts if key.startswith("on")]
    assert not [facts for tag, facts in page.tags if tag == "img" and not facts["src"].startswith("data:image/webp")]
    assert NASTY_CLASS in page.text
    assert NASTY_IMAGE in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_nothing_is_fetched(make_page: Make) -> None:
    page = make_page(Fake(defects=("crack", NASTY_CLASS)))
    for tag, facts in page.tags:
        for key in ("src", "href", "srcset", "action", "data"):
            assert facts.get(key, "#").startswith(("#", "data:")), (tag, facts[key][:80])
    assert "@import" not in page.html
    assert not re.search(r"url\(", page.html)


def test_sections_stand_in_order_with_unique_ids(make_page: Make) -> None:
    page = make_page(Fake())
    ids = [facts["id"] for _, facts in page.tags if "id" in facts]
    assert len(ids) == len(set(ids))
    assert [facts["id"] for tag, facts in page.tags if tag == "section"] == [anchor for anchor, _, _ in SECTIONS]
    linked = {facts["href"] for tag, facts in page.tags if tag in {"a", "use"}}
    assert linked <= {f"#{name}" for name in ids}


def test_every_picture_and_figure_has_words(make_page: Make) -> None:
    page = make_page(Fake())
    for tag, facts in page.tags:
        if tag == "img":
            assert facts["alt"]
        if tag == "svg":
            assert facts.get("aria-label") or facts.get("aria-hidden") == "true"


OPTIONAL = [
    (Fake(embeddings=False), "No embeddings: evaluate left none."),
    (Fake(embeddings=False, sections={"evaluate": {"embeddings": False}}), "turned off in the recipe (evaluate.embedd"),
    (Fake(gradcam=0), "No Grad-CAM: evaluate left none."),
    (Fake(gradcam=0, sections={"evaluate": {"gradcam": 0}}), "No Grad-CAM: it is turned off in the recipe"),
    (Fake(task="classification"), "No pixel metrics: this detector gives a score per image, no map."),
    (Fake(masks=False), "No pixel metrics: the test images have no usable masks."),
    (Fake(method="none"), "No self-supervised pretraining: the encoder started from random weights."),
    (Fake(method="none"), "There was no pretraining to draw: the method is none"),
    (Fake(views=False), "No views: pretraining left no pictures."),
    (Fake(snapshots=False), "No snapshots of the embedding: pretraining left none."),
    (Fake(snapshots=False, sections={"pretrain": {"snapshots": 0}}), "turned off in the recipe (pretrain.snapshots)"),
    (Fake(warnings=("the loss has not fallen",)), "Warning of the pretraining: The loss has not fallen."),
    (Fake(warnings=("the loss has not fallen",)), "Pretraining warned that it learned little"),
    (Fake(recorded=False), "the stages were called from Python and left no record"),
    (Fake(one_class=True), "the detector cannot be judged: the test images hold one class only."),
    (Fake(split="random"), "The split is random, not by group"),
    (Fake(source="elpv"), "CC BY-NC-SA 4.0"),
]


@pytest.mark.parametrize(("fake", "line"), OPTIONAL)
def test_what_is_missing_is_said(make_page: Make, fake: Fake, line: str) -> None:
    assert line in make_page(fake).text.replace("`", "")


@pytest.mark.parametrize(
    "name",
    [
        "prepare/samples.csv",
        "prepare/images.npy",
        "prepare/audit.json",
        "pretrain/pretrain.json",
        "finetune/finetune.json",
        "evaluate/metrics.json",
        "evaluate/curves.json",
        "evaluate/predictions.csv",
    ],
)
def test_a_missing_record_is_one_clear_line(tmp_path: Path, name: str) -> None:
    recipe = build(tmp_path, Fake())
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=Path(name).name) as caught:
        report(recipe, tmp_path, tmp_path / "report")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report" / "index.html").exists()


@pytest.mark.parametrize(
    "name",
    [
        "evaluate/predictions.csv",
        "evaluate/maps.npy",
        "evaluate/gradcam.npz",
        "pretrain/history.csv",
        "pretrain/snapshots.npz",
        "pretrain/pictures.npz",
    ],
)
def test_a_damaged_record_is_one_clear_line(tmp_path: Path, name: str) -> None:
    recipe = build(tmp_path, Fake())
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:40] if path.suffix in {".npy", ".npz"} else b"image,epoch\n3,x,\xff\n")
    with pytest.raises(UserError, match=f"{re.escape(path.name)}: damaged"):
        report(recipe, tmp_path, tmp_path / "report")


def test_a_large_run_stays_small_and_quick(tmp_path: Path) -> None:
    recipe = build(tmp_path, Fake(count=1999, size=128, channels=3, gradcam=12))  # 1,000 test images, of noise
    start = time.process_time()
    report(recipe, tmp_path, tmp_path / "report")
    assert time.process_time() - start < 20  # processor seconds; about seven on a busy core
    assert (tmp_path / "report" / "index.html").stat().st_size < 15_000_000
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]


def test_the_report_needs_no_torch() -> None:
    code = "import sys, ssl_defect.report.stage; sys.exit(sum(m in sys.modules for m in ('torch', 'sklearn', 'timm')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_templates_are_part_of_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.html.j2").write_text("one", encoding="utf-8")
    monkeypatch.setattr("ssl_defect.report.stage.HERE", tmp_path)
    before = template_digest()
    (tmp_path / "page.html.j2").write_text("two", encoding="utf-8")
    assert template_digest() != before


def test_light_that_gives_the_defects_away_is_said(make_page: Make) -> None:
    text = make_page(Fake()).text
    assert "The brightness of the whole picture alone tells the defective test images" in text
    assert "AUROC 0.970, defective ones have less of it" in text
    assert "The contrast of the whole picture" not in text


def test_the_metrics_of_one_task_are_shown_with_their_classes(tmp_path: Path) -> None:
    block = {
        "title": "Boxes of defects",
        "names": {"AP50": "AP at an overlap of 0.50"},
        "metrics": {"AP50": {"value": 0.51234, "low": 0.4, "high": 0.6}},
        "classes": {NASTY_CLASS: {"AP50": {"value": 0.25, "low": None, "high": None}}},
        "note": "As COCO measures.",
    }
    recipe, path = build(tmp_path, Fake()), tmp_path / "evaluate" / "metrics.json"
    path.write_text(json.dumps(metrics_of(tmp_path) | {"task": block}), encoding="utf-8")
    report(recipe, tmp_path, tmp_path / "report")
    page = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    assert "Boxes of defects As COCO measures." in page.text
    assert "AP at an overlap of 0.500.512 0.400 to 0.600" in page.text
    assert NASTY_CLASS in page.text
    figures = {place: float(exact) for place, exact, _ in page.figures if place.startswith("task.")}
    assert figures["task.metrics.AP50.value"] == 0.51234
    assert figures[f"task.classes.{NASTY_CLASS}.AP50.value"] == 0.25


def test_values_of_a_regression_are_drawn_against_the_truth(tmp_path: Path) -> None:
    recipe, path = build(tmp_path, Fake(count=20)), tmp_path / "evaluate" / "predictions.csv"
    block = {"title": "Regression of the grade", "names": {}, "metrics": {}, "classes": {}, "note": ""}
    metrics = tmp_path / "evaluate" / "metrics.json"
    metrics.write_text(json.dumps(metrics_of(tmp_path) | {"task": block}), encoding="utf-8")
    rows = path.read_text("utf-8").splitlines()
    ends = ["value_true,value_predicted", *(f"{n % 4 / 4},{n / 40}" for n in range(len(rows) - 1))]
    path.write_text("\n".join(f"{row},{end}" for row, end in zip(rows, ends, strict=True)) + "\n", encoding="utf-8")
    report(recipe, tmp_path, tmp_path / "report")
    page = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    tested = sum(",test," in row for row in rows)
    (alt,) = [facts["aria-label"] for name, facts in page.tags if "against true" in facts.get("aria-label", "")]
    assert alt.startswith(f"Predicted against true values of {tested} test images")
