"""Every number that the page shows of a result is the one in metrics.json, and none is shown that is not marked so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fabricated_run import NASTY_CLASS, Fake, build, metrics_of
from read_page import Page

from ssl_defect.report.stage import report

DEFECTS = ("crack", "dent.v2", NASTY_CLASS)
OTHER_RECORDS = {"pretraining", "cautions", "steps"}  # of the verdict: what pretraining, audit and training recorded
CONSTANTS = ("F1", "chance is 0.5", "Of 1,000", "per 100 good ones")


def found_at(metrics: Any, path: str) -> float:
    """What a marked figure must be: the value at a dotted path, or `a + b / c + d`, or that times a number."""
    times, _, quotient = path.rpartition(" * ")
    above, _, below = quotient.partition(" / ")
    sums = [sum(total(lookup(metrics, one)) for one in part.split(" + ")) for part in (above, below) if part]
    return float(times or 1) * (sums[0] / sums[1] if below else sums[0])


def total(value: Any) -> float:
    return float(sum(value) if isinstance(value, list) else value)


def lookup(values: Any, path: str) -> Any:
    """The value at a dotted path, where the name of a class may itself hold dots."""
    if not path:
        return values
    if isinstance(values, list):
        number, _, rest = path.partition(".")
        return lookup(values[int(number)], rest)
    name = max((key for key in values if path == key or path.startswith(f"{key}.")), key=len)
    return lookup(values[name], path[len(name) + 1 :])


def agrees(text: str, value: float) -> bool:
    """Whether a shown figure is the value, up to rounding in its last digit."""
    if text == "99.9%":  # a share is never rounded to all
        return 0.9985 - 1e-9 <= value < 1
    plain = text.replace(",", "").rstrip("%")
    digits, _, power = plain.partition("e")
    unit = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
    return abs(float(plain) - value * (100 if text.endswith("%") else 1)) <= unit / 2 + 1e-9


def words_in(values: Any) -> Iterator[str]:
    """Every word of metrics.json, keys too: names of classes and metrics, rules, notes."""
    if isinstance(values, str):
        yield values
    for key, value in values.items() if isinstance(values, dict) else ():
        yield key
        yield from words_in(value)
    for value in values if isinstance(values, list) else ():
        yield from words_in(value)


def unmarked(page: Page, metrics: Any, section: str) -> list[str]:
    """Texts and labels of a section with a number that is neither marked, nor a tick of an axis, nor a name."""
    known = sorted((word for word in {*words_in(metrics), *CONSTANTS} if re.search(r"\d", word)), key=len)[::-1]
    left = []
    for text, around in page.loose:
        facts = [facts for _, facts in around]
        tick = around[-1][0] == "text" and "class" not in facts[-1]
        other = any(one.get("data-test") in OTHER_RECORDS for one in facts)
        if tick or other or not any(one.get("id") == section for one in facts):
            continue
        plain = text
        for word in known:
            plain = plain.replace(word, "")
            if text.endswith("…") and word.startswith(text[:-1]):
                plain = ""  # a name that was cut to fit beside its row
        if re.search(r"\d", plain):
            left.append(text)
    return left


def check_figures(page: Page, metrics: Any) -> None:
    for path, exact, text in page.figures:
        if not exact:
            assert (lookup(metrics, path), text) == (None, "–"), path
            continue
        assert float(exact) == pytest.approx(found_at(metrics, path), rel=1e-12), path
        assert not text or agrees(text, float(exact)), (path, text)


def read(run: Path, recipe: Any) -> tuple[Page, Any]:
    report(recipe, run, run / "report")
    return Page((run / "report" / "index.html").read_text(encoding="utf-8")), metrics_of(run)


TASKS = [Fake(count=240, task="segmentation", defects=DEFECTS), Fake(count=240, task="classification", defects=DEFECTS)]


@pytest.mark.parametrize("fake", [*TASKS, Fake(older=True), Fake(one_class=True), Fake(masks=False)])
def test_every_marked_figure_is_the_one_in_metrics_json(tmp_path: Path, fake: Fake) -> None:
    page, metrics = read(tmp_path, build(tmp_path, fake))
    check_figures(page, metrics)
    shown = {path for path, _, _ in page.figures}
    assert len(shown) > 20
    for block in ("image", "pixel", "calibration"):
        for key, entry in (metrics.get(block) or {}).items():
            if isinstance(entry, dict) and entry.get("value") is not None:
                ends = ("chance.low", "chance.high") if "chance" in entry else ("low", "high")
                assert {f"{block}.{key}.{end}" for end in ("value", *ends)} <= shown
    assert {f"image.confusion.{cell}" for cell in ("tn", "fp", "fn", "tp")} <= shown
    assert {f"sizes.{number}.recall.value" for number in range(len(metrics.get("sizes") or ()))} <= shown


@pytest.mark.parametrize("section", ["verdict", "results"])
@pytest.mark.parametrize("fake", [*TASKS, Fake(one_class=True)])
def test_no_number_of_a_result_is_without_its_mark(tmp_path: Path, fake: Fake, section: str) -> None:
    page, metrics = read(tmp_path, build(tmp_path, fake))
    assert unmarked(page, metrics, section) == []


@pytest.mark.parametrize("section", ["verdict", "results"])
def test_no_number_hides_in_a_text_alternative(tmp_path: Path, section: str) -> None:
    page, _ = read(tmp_path, build(tmp_path, Fake(count=240)))
    html = page.html[page.html.index(f'<section id="{section}"') :]
    labels = re.findall(r'(?:aria-label|title|alt)="([^"]*)"', html[: html.index("</section>")])
    assert labels
    assert [label for label in labels if re.search(r"\d", label)] == []


def test_the_chosen_operating_point_is_that_of_the_metrics(tmp_path: Path) -> None:
    page, metrics = read(tmp_path, build(tmp_path, Fake(count=240)))
    row = page.html[page.html.index('<th scope="row">Chosen: ') :]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", row[: row.index("</tr>")])
    image, confusion = metrics["image"], metrics["image"]["confusion"]
    wanted = [metrics["threshold"]["value"], *(image[key]["value"] for key in ("precision", "recall", "f1"))]
    wanted += [
        1000 * confusion[wrong] / (confusion[wrong] + confusion[right]) for wrong, right in (("fn", "tp"), ("fp", "tn"))
    ]
    assert len(cells) == len(wanted)
    assert all(agrees(text, value) for text, value in zip(cells, wanted, strict=True)), (cells, wanted)


def test_an_unmarked_number_is_found(tmp_path: Path) -> None:
    page, metrics = read(tmp_path, build(tmp_path, Fake()))
    damaged = page.html.replace("<h3>Curves</h3>", "<h3>Curves</h3><p>recall 0.93</p>")
    assert unmarked(Page(damaged), metrics, "results") == ["recall 0.93"]
    metrics["image"]["auroc"]["value"] += 1e-6
    with pytest.raises(AssertionError, match="auroc"):
        check_figures(page, metrics)


def test_the_metrics_of_a_real_evaluation_are_on_its_page(tmp_path: Path) -> None:
    import torch

    from ssl_defect.evaluate.stage import evaluate
    from ssl_defect.nets.backbones import build_encoder
    from ssl_defect.nets.detector import Detector, Spec, save_detector

    torch.manual_seed(0)
    settings = {"bootstrap": 100, "embeddings": False, "gradcam": 0}
    recipe = build(tmp_path, Fake(count=132, sections={"evaluate": settings}))
    options = {"decoder_width": 8, "score_share": 0.01}
    spec = Spec("segmentation", "test_resnet", 32, 1, ["good", "defective"], options)
    save_detector(tmp_path / "finetune" / "model.safetensors", Detector(build_encoder("test_resnet", 32), spec))
    evaluate(recipe, *(tmp_path / stage for stage in ("prepare", "pretrain", "finetune", "evaluate")))
    page, metrics = read(tmp_path, recipe)
    curves = json.loads((tmp_path / "evaluate" / "curves.json").read_text(encoding="utf-8"))
    assert set(curves["classes"]) == set(metrics["classes"]) == {"crack", "stain"}
    assert set(curves["bands"]) == {"roc", "pr", "pixel_roc", "pixel_pr", "pro"}
    check_figures(page, metrics)
    assert unmarked(page, metrics, "results") == []
    shown = {path for path, _, _ in page.figures}
    assert {"calibration.ece.chance.low", "calibration.brier.high", "sizes.0.recall.low", "pixel.aupro_limit"} <= shown
    assert sum(facts.get("data-test") == "curve" for _, facts in page.tags) == 5
    assert page.html.count('class="spread" d=') == 5 + 2 * 3
