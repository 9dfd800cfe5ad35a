"""The operating point in a real Chromium: what the page shows is what scikit-learn gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fabricated_run import Fake, build
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score
from test_browser import CONTRAST, OVERFLOW

from ssl_defect.report.cuts import cheapest, sides
from ssl_defect.report.records import Prediction, read_run
from ssl_defect.report.stage import report
from ssl_defect.report.svg import Frame

pytestmark = pytest.mark.browser
Visit = Callable[..., Any]

SET = """
const field = document.getElementById(arguments[0]);
field.value = arguments[1];
field.dispatchEvent(new Event("input", { bubbles: true }));
return field.valueAsNumber;
"""
READ = """
const number = (node) => node.textContent === "–" ? null : Number(node.textContent.replaceAll(",", ""));
const all = (name, of) => Object.fromEntries([...document.querySelectorAll(`[data-op-${name}]`)].map(
  (node) => [node.getAttribute(`data-op-${name}`), number(of ? node.querySelector(of) : node)]));
return { now: all("now"), chosen: all("chosen"), matrix: all("cell", "b"),
  marks: Object.fromEntries([...document.querySelectorAll("[data-mark]")].map(
    (node) => [node.dataset.mark, [Number(node.getAttribute("cx")), Number(node.getAttribute("cy"))]])),
  point: JSON.parse(document.getElementById("op-json").textContent),
  advice: document.getElementById("op-advice").textContent };
"""
STEPS = """
const range = document.getElementById("op-range"), done = arguments[arguments.length - 1];
const again = (left) => {
  if (!left) { done(); return; }
  range.value = 0.3 + left / 80;
  range.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => again(left - 1)));
};
again(arguments[0]);
"""


class Truth(NamedTuple):
    """What the reports of this module are made from."""

    labels: np.ndarray
    scores: np.ndarray
    validation: list[Prediction]


@pytest.fixture(scope="module")
def truth() -> Truth:
    """1,001 test images, half of the scores tied, and 300 validation images of both classes."""
    rng = np.random.default_rng(5)
    labels = (rng.random(1001) < 0.3).astype(int)
    scores = np.clip(rng.normal(0.35 + 0.25 * labels, 0.15), 0, 1)
    scores[::2] = np.round(scores[::2], 1)
    one = Prediction("x", 0, "val", 0, 0, "good", 0.0, "good", True, "", None, None)
    found = [(int(rng.random() < 0.2), float(rng.random())) for _ in range(300)]
    validation = [Prediction(**{**vars(one), "label": y, "score": 0.6 * s + 0.3 * y}) for y, s in found]
    return Truth(labels, scores, validation)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, truth: Truth) -> Path:
    folder = tmp_path_factory.mktemp("run")
    recipe = build(folder, Fake(count=2000, size=16, gradcam=0, embeddings=False, snapshots=False, views=False))
    records = read_run(recipe, folder)
    for place, (label, score) in enumerate(zip(truth.labels.tolist(), truth.scores.tolist(), strict=True)):
        object.__setattr__(records.predictions[place], "label", label)
        object.__setattr__(records.predictions[place], "score", score)
    object.__setattr__(records, "validation", truth.validation)
    records.metrics["threshold"]["value"] = 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_defect.report.stage.read_run", lambda *_: records)
        report(recipe, folder, folder / "report")
    return folder


def press(page: Any, name: str) -> None:
    """Click without the smooth scrolling that a real click would have to wait for."""
    page.execute_script("document.getElementById(arguments[0]).click()", name)


def shown_at(page: Any, threshold: float, name: str = "op-number") -> Any:
    page.execute_script(SET, name, repr(threshold))
    return page.execute_script(READ)


def agree(found: Any, truth: Truth, threshold: float) -> None:
    """Everything measured on the test images is that of scikit-learn, up to the digits shown."""
    labels, called = truth.labels, (truth.scores >= threshold).astype(int)
    tn, fp, fn, tp = (int(n) for n in confusion_matrix(labels, called).ravel())
    assert found["matrix"] == {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    expected = {
        "precision": precision_score(labels, called) if called.any() else None,
        "recall": recall_score(labels, called),
        "specificity": recall_score(labels, called, pos_label=0),
        "f1": f1_score(labels, called),
        "accuracy": accuracy_score(labels, called),
    }
    shown = {name: found["now"][name] for name in expected}
    assert shown == pytest.approx(expected, abs=0.00051)
    assert found["now"]["escapes"] == pytest.approx(1000 * fn / (fn + tp), abs=0.51)
    assert found["now"]["alarms"] == pytest.approx(1000 * fp / (fp + tn), abs=0.51)
    frame = Frame((0, 1), (0, 1))
    places = {
        "roc": [frame.across(fp / (fp + tn)), frame.down(tp / (tp + fn))],
        "pr": [frame.across(tp / (tp + fn)), frame.down(tp / (tp + fp) if tp + fp else 1)],
    }
    for name, place in places.items():
        assert found["marks"][name] == pytest.approx(place, abs=1e-6)


def test_every_figure_is_that_of_scikit_learn(visit: Visit, truth: Truth) -> None:
    page = visit()
    for threshold in (0.0, 0.1, 0.2999999999999999, 0.3, 0.30000000000000004, 0.47123, 0.5, 0.9, 1.5):  # ties at tenths
        found = shown_at(page, threshold)
        assert found["point"]["threshold"] == threshold
        agree(found, truth, threshold)


def test_the_slider_moves_figures_matrix_and_marks(visit: Visit, truth: Truth) -> None:
    page = visit()
    agree(page.execute_script(READ), truth, 0.5)  # at first the chosen threshold
    for wanted in (0.2, 0.4, 0.61):
        at = page.execute_script(SET, "op-range", str(wanted))
        found = page.execute_script(READ)
        assert at == pytest.approx(wanted)
        agree(found, truth, at)
        assert found["chosen"]["recall"] == pytest.approx(recall_score(truth.labels, truth.scores >= 0.5), abs=0.00051)
    press(page, "op-chosen")
    assert page.execute_script(READ)["point"] | {"threshold": 0.5} == page.execute_script(READ)["point"]


def test_the_line_stands_over_the_thumb(visit: Visit) -> None:
    page = visit()
    for share in (0.0, 0.25, 1.0):
        low, high = (float(page.find_element("id", "op-range").get_attribute(end)) for end in ("min", "max"))
        page.execute_script(SET, "op-range", str(low + share * (high - low)))
        line, box = (
            page.execute_script(f"return document.querySelector('{one}').getBoundingClientRect().toJSON()")
            for one in (".op-line.now", ".bars-only")
        )
        assert line["x"] + line["width"] / 2 == pytest.approx(box["x"] + share * box["width"], abs=0.6)


def test_the_line_has_its_costs_and_its_share_of_defects(visit: Visit, truth: Truth) -> None:
    page = visit()
    for name, value in (("op-miss", 200), ("op-alarm", 3), ("op-share", 2)):
        page.execute_script(SET, name, str(value))
    found = shown_at(page, 0.47)
    miss = 1 - recall_score(truth.labels, truth.scores >= 0.47)
    alarm = 1 - recall_score(truth.labels, truth.scores >= 0.47, pos_label=0)
    escapes, alarms, hits = 20 * miss, 980 * alarm, 20 * (1 - miss)
    line = {name: found["now"][name] for name in ("line-escapes", "line-alarms", "line-precision", "cost")}
    expected = (escapes, alarms, hits / (hits + alarms), 200 * escapes + 3 * alarms)
    assert line == pytest.approx(dict(zip(line, expected, strict=True)), abs=0.51)
    assert line["line-precision"] == pytest.approx(expected[2], abs=0.00051)
    assert found["point"]["cost"] | {"per_1000_parts": 0} == {
        **{"miss": 200, "false_alarm": 3, "defective_share": 0.02},
        "per_1000_parts": 0,
    }


def test_the_cheapest_is_chosen_on_validation_and_measured_on_test(visit: Visit, truth: Truth) -> None:
    page, validation = visit(), sides(truth.validation)
    for miss, alarm in ((10, 1), (1, 1), (1, 50)):
        page.execute_script(SET, "op-miss", str(miss))
        page.execute_script(SET, "op-alarm", str(alarm))
        press(page, "op-cheapest")
        found = page.execute_script(READ)
        assert found["point"]["threshold"] == cheapest(miss, alarm)(validation, float(truth.labels.mean()))
        assert found["point"]["chosen"] == "least cost on validation"
        agree(found, truth, found["point"]["threshold"])
        assert "the cheapest by looking at them" in found["advice"]


def test_a_cost_below_zero_is_not_taken(visit: Visit) -> None:
    page = visit()
    before = page.execute_script(READ)["now"]["cost"]
    page.execute_script(SET, "op-miss", "-1")
    assert page.find_element("id", "op-miss").get_attribute("aria-invalid") == "true"
    assert page.execute_script(READ)["now"]["cost"] == before


def test_arrow_keys_go_where_the_next_verdict_changes(visit: Visit, truth: Truth) -> None:
    from selenium.webdriver.common.keys import Keys

    page = visit()
    slider = page.find_element("id", "op-range")
    levels = np.unique(truth.scores)
    place = int((levels < 0.5).sum())
    for key, move in ((Keys.ARROW_RIGHT, 1), (Keys.ARROW_UP, 1), (Keys.ARROW_LEFT, -1), (Keys.ARROW_DOWN, -1)):
        slider.send_keys(key)
        place += move
        at = page.execute_script(READ)["point"]["threshold"]
        assert int((levels < at).sum()) == place
        agree(page.execute_script(READ), truth, at)
    slider.send_keys(Keys.HOME)
    assert page.execute_script(READ)["matrix"]["tn"] == 0
    slider.send_keys(Keys.END)
    assert page.execute_script(READ)["matrix"]["fp"] == 0
    assert page.execute_script(READ)["now"]["precision"] is None
    press(page, "op-down")
    assert page.execute_script(READ)["matrix"]["fp"] + page.execute_script(READ)["matrix"]["tp"] >= 1


def test_the_table_leads_to_its_points(visit: Visit, truth: Truth) -> None:
    page = visit()
    buttons = page.find_elements("css selector", "[data-op-threshold] button")
    assert len(buttons) == 8
    for button in (buttons[1], buttons[4]):
        page.execute_script("arguments[0].click()", button)
        cell = button.find_element("xpath", "..")
        exact = float(cell.get_attribute("data-op-threshold"))
        assert page.execute_script(READ)["point"]["threshold"] == exact
        row = [one.text for one in cell.find_elements("xpath", "../td")]
        now = page.execute_script(READ)["now"]
        assert [float(text) for text in row[1:4]] == [now["precision"], now["recall"], now["f1"]]
        assert [float(text.replace(",", "")) for text in row[4:]] == [now["escapes"], now["alarms"]]


def test_the_point_can_be_copied(visit: Visit) -> None:
    page = visit()
    origin = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.execute_cdp_cmd("Browser.grantPermissions", origin)
    page.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})  # only a focused page may copy
    shown_at(page, 0.47123)
    press(page, "op-copy")
    assert rested(page) == "Copied"
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    copied = page.execute_async_script(read)
    assert json.loads(copied)["threshold"] == 0.47123
    assert "\n" not in copied


def test_a_copy_that_the_browser_refuses_is_said(visit: Visit) -> None:
    page = visit()
    page.execute_script("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    press(page, "op-copy")
    assert rested(page) == "Refused by the browser; select the text"
    told = page.execute_async_script(
        "const done = arguments[0], button = document.querySelector('.command button'); button.click(); "
        "setTimeout(() => done(button.textContent), 200)"
    )
    assert told == "Refused by the browser; select the text"


def rested(page: Any) -> str:
    """What stands beside the button a moment later."""
    wait = "const done = arguments[0]; setTimeout(() => done(document.getElementById('op-copied').textContent), 200)"
    return str(page.execute_async_script(wait))


def test_the_changes_are_spoken_once_it_rests(visit: Visit) -> None:
    page = visit()
    shown_at(page, 0.47123)
    wait = "const done = arguments[0]; setTimeout(() => done(document.getElementById('op-live').textContent), 700)"
    assert page.execute_async_script(wait).startswith("Threshold 0.471")
    assert page.find_element("id", "op-live").get_attribute("aria-live") == "polite"
    assert page.find_element("id", "op-range").get_attribute("aria-valuetext").startswith("0.471")


def laid_out(page: Any) -> float:
    """How often the page was laid out so far: where each of 1,001 images asks for a layout, the slider crawls."""
    found = page.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(one["value"] for one in found if one["name"] == "LayoutCount"))


@pytest.mark.parametrize("place", ["#operating", ".thumbs", "#embeddings"])
def test_it_runs_without_error_or_request_or_a_layout_per_image(visit: Visit, place: str) -> None:
    """All that follows the slider on a page of 1,001 images, wherever the reader looks."""
    page = visit()
    page.execute_cdp_cmd("Performance.enable", {})
    glide = "document.documentElement.style.scrollBehavior = 'auto';"
    page.execute_script(f"{glide} document.querySelector('{place}').scrollIntoView()")
    page.execute_async_script(STEPS, 2)
    before, steps = laid_out(page), 12
    page.execute_async_script(STEPS, steps)
    assert 0 < (laid_out(page) - before) / steps < 10
    assert page.get_log("browser") == []
    requests = [entry["message"] for entry in page.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert [text for text in requests if '"url":"data:' not in text and "index.html" not in text] == []


def test_without_script_and_on_paper_there_is_the_table_alone(visit: Visit) -> None:
    for page in (visit(script=False), visit(media="print")):
        assert not page.find_element("id", "op").is_displayed()
        assert page.find_element("css selector", '[data-test-table="operating"]').is_displayed()
        assert len(page.find_elements("css selector", '[data-test-table="operating"] tbody tr')) == 8


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_of_it_has_enough_contrast(visit: Visit, dark: bool) -> None:
    assert visit(dark=dark).execute_script(CONTRAST.replace('"body *"', '"#operating *"')) == []


@pytest.mark.parametrize("width", [360, 768, 1280, 3840])
def test_nothing_of_it_overflows(visit: Visit, width: int) -> None:
    page = visit(width=width)
    assert page.execute_script(OVERFLOW.replace('"body *"', '"#operating *"')) == []


def test_every_control_has_a_name(visit: Visit) -> None:
    page = visit()
    nodes = page.find_elements("css selector", "#operating input, #operating button")
    assert len(nodes) == 18
    assert all(node.accessible_name for node in nodes)
