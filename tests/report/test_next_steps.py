"""What to do next: every line where its records say so, and none where they do not."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fabricated_run import NASTY_CLASS, NASTY_IMAGE, Fake, build
from scipy.stats import binomtest

from ssl_defect.report.advice import WIDE
from ssl_defect.report.records import Prediction, RunRecords, read_run
from ssl_defect.report.steps import next_steps, wilson

SURE = {"value": 0.95, "low": 0.93, "high": 0.97}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> RunRecords:
    run = tmp_path_factory.mktemp("run")
    return read_run(build(run, Fake(count=240, gradcam=0)), run)


@pytest.fixture
def records(built: RunRecords) -> RunRecords:
    """A run that leaves nothing to do: no mistakes, every class found, a narrow interval."""
    found = deepcopy(built)
    found.audit["copies"]["mixed_labels"] = []
    found.audit["empty_masks"] = []
    found.audit["shortcuts"] = {}
    found.audit["leak"]["this_split_share"] = 0.0
    found.metrics["image"] |= {name: dict(SURE) for name in ("auroc", "recall")}
    found.metrics["image"]["f1"] = {"value": 1.0, "low": 0.9, "high": 1.0}
    found.metrics["image"]["confusion"] = {"tn": 78, "fp": 2, "fn": 0, "tp": 40}
    found.metrics["counts"] |= {"defective": 40, "groups": 60}
    for facts in found.metrics["classes"].values():
        facts["image"]["recall"] = {"value": 0.96, "low": 0.9, "high": 0.99}
    clear = [_scored(one, 0.1 + 0.8 * one.label) for one in found.predictions]
    found.finetune["labels"] = {name: found.audit["splits"]["train"][name] for name in found.finetune["classes"]}
    return replace(found, predictions=clear)


def _scored(one: Prediction, score: float) -> Prediction:
    called = score >= 0.5
    verdict = "defective" if called else "good"
    return replace(one, score=score, verdict=verdict, correct=called == bool(one.label))


def with_scores(records: RunRecords, changed: dict[int, float]) -> RunRecords:
    """The same records, with other scores at some places."""
    every = [_scored(one, changed.get(place, one.score)) for place, one in enumerate(records.predictions)]
    return replace(records, predictions=every)


def only(records: RunRecords) -> str:
    """The one line there is, as text."""
    (line,) = next_steps(records)
    return " ".join(line.striptags().split())


def places(records: RunRecords, label: int, defect: str = "") -> list[int]:
    return [n for n, one in enumerate(records.predictions) if one.label == label and defect in {"", one.defect}]


def test_a_run_that_leaves_nothing_to_do_gets_no_advice(records: RunRecords) -> None:
    assert next_steps(records) == []


@pytest.mark.parametrize(
    ("protocol", "cure"), [("supervised", "data.split: group"), ("official", "data.protocol: sup")]
)
def test_a_leak_comes_before_all_else(records: RunRecords, protocol: str, cure: str) -> None:
    records.metrics["protocol"]["name"] = protocol
    records.audit["leak"]["this_split_share"] = 0.25
    records.audit["empty_masks"] = ["a.png"]
    first = next_steps(records)[0].striptags()
    assert first.startswith("Before all else")
    assert cure in first
    assert "25% of the test images" in first


def test_light_that_gives_defects_away(records: RunRecords) -> None:
    records.audit["shortcuts"] = {"brightness": {"test": 0.03, "drift": None}, "contrast": {"test": 0.6, "drift": 0.99}}
    assert "brightness alone tells them apart" in only(records)


def test_suspected_label_errors_are_named_and_linked(records: RunRecords) -> None:
    bad, good = places(records, 1), places(records, 0)
    found = with_scores(records, {bad[0]: 0.01, bad[1]: 0.02, good[0]: 0.99, good[1]: 0.95})
    text, html = only(found), str(next_steps(found)[0])
    assert "Check the labels of 4 test images" in text
    assert "and 1 more that the gallery marks" in text
    assert html.count('<a href="#image-') == 3
    for place in (bad[0], bad[1], good[0]):  # the farthest from the threshold first
        assert f'href="#image-{found.predictions[place].row}"' in html


def test_a_detector_that_guesses_doubts_no_label(records: RunRecords) -> None:
    found = with_scores(records, {places(records, 1)[0]: 0.01})
    assert "Check the label" in only(found)
    found.metrics["image"]["auroc"] = {"value": 0.5, "low": 0.46, "high": 0.54}
    assert next_steps(found) == []


def test_pretraining_that_harmed_is_to_be_left_out_once(records: RunRecords) -> None:
    records.pretrain["probe"] = {"metric": "kNN AUROC on validation", "before": 0.76, "after": 0.5}
    assert only(records) == (
        "Compare with a run without this pretraining (pretrain.method=none): kNN AUROC on validation fell from 0.76 to "
        "0.50."
    )
    records.pretrain["probe"]["after"] = 0.755
    assert next_steps(records) == []


def test_a_decoder_that_was_left_behind_is_to_be_taken_along(records: RunRecords) -> None:
    why = "its decoder does not fit and starts anew (it was made 32 wide; set finetune.options.decoder_width=32)"
    records.finetune["left_behind"] = why
    assert only(records) == f"Fine-tune from all that pretraining made: {why}."
    records.finetune["left_behind"] = ""
    assert next_steps(records) == []


def test_a_file_name_is_text(records: RunRecords) -> None:
    place = next(n for n, one in enumerate(records.predictions) if one.image == NASTY_IMAGE)
    found = with_scores(records, {place: 0.01})
    (line,) = next_steps(found)
    assert NASTY_IMAGE not in line
    assert "&lt;img" in line


def test_groups_with_different_labels_are_to_be_settled(records: RunRecords) -> None:
    records.audit["copies"]["mixed_labels"] = [{"group": 9, "images": ["x", "y"], "defects": ["good", "crack"]}]
    assert "Settle the labels of 1 group of near-copies that disagree" in only(records)


def weak(records: RunRecords, high: float = 0.6) -> None:
    records.metrics["classes"]["stain"]["image"]["recall"] = {"value": 0.4, "low": 0.2, "high": high}


def test_the_weakest_class_stands_with_its_interval_and_its_numbers(records: RunRecords) -> None:
    weak(records)
    one = {one.group for one in records.predictions if one.defect == "stain"}
    images = records.metrics["classes"]["stain"]["images"]
    labels = records.finetune["labels"]["stain"]
    assert only(records) == (
        f"Label more of stain, which was trained with {labels} labels: of all classes it escapes most: 40% found "
        f"(20% to 60%), on {images} test images in {len(one)} groups."
    )


def test_a_class_whose_interval_holds_the_recall_of_all_may_be_chance(records: RunRecords) -> None:
    weak(records, high=0.96)
    assert "its interval still holds the 95% of all, so this may be chance" in only(records)


def test_labels_that_were_not_used_come_before_new_ones(records: RunRecords) -> None:
    weak(records)
    there = records.audit["splits"]["train"]["stain"]
    records.finetune["labels"]["stain"] = there - 3
    text = next_steps(records)[0].striptags()
    assert text.startswith(f"Use more labels of stain (finetune.labels_per_class): {there - 3} training images had")
    assert "and 3 not" in text


def test_an_anomaly_detector_is_not_told_to_label_more(records: RunRecords) -> None:
    weak(records)
    records.metrics["protocol"]["task"] = "anomaly"
    assert "Look at stain first, as this detector does not learn from its labels" in only(records)


def test_a_class_of_few_images_is_no_evidence(records: RunRecords) -> None:
    weak(records)
    records.metrics["classes"]["stain"]["images"] = 9
    assert next_steps(records) == []


def test_more_false_alarms_than_foretold(records: RunRecords) -> None:
    records.metrics["threshold"]["false_alarms"] = {"expected": 0.05, "low": 0.02, "high": 0.1, "good": 60}
    records.metrics["image"]["confusion"] = {"tn": 60, "fp": 20, "fn": 0, "tp": 40}
    assert "25% of the good test images are called defective, where validation foretold 2% to 10%" in only(records)
    records.metrics["image"]["confusion"] = {"tn": 71, "fp": 9, "fn": 0, "tp": 40}  # 11%, within what chance does
    assert next_steps(records) == []


def test_a_threshold_that_the_test_images_would_not_choose(records: RunRecords) -> None:
    bad = places(records, 1)
    found = with_scores(records, dict.fromkeys(bad[::2], 0.45))  # below the threshold, above every good image
    found.metrics["image"]["f1"] = {"value": 2 / 3, "low": 0.55, "high": 0.75}
    assert [line for line in next_steps(found) if "other thresholds" in line]
    text = next(line for line in next_steps(found) if "other thresholds" in line).striptags()
    held = sum(one.label for one in found.validation)
    assert "that of validation (0.500) has F1 0.67 (0.55 to 0.75), and 0.275 would have 1.00" in text
    assert f"Validation holds {held} defective images." in text
    found.metrics["image"]["f1"]["high"] = 1.0
    assert not [line for line in next_steps(found) if "other thresholds" in line]


def history(validation: list[float], loss: list[float]) -> list[dict[str, Any]]:
    steps = range(100, 100 * len(validation) + 1, 100)
    return [{"step": s, "loss": x, "validation": v} for s, x, v in zip(steps, loss, validation, strict=True)]


def test_overfitting_needs_validation_to_fall_while_the_loss_does(records: RunRecords) -> None:
    records.finetune.update({"best_step": 100, "stopped_early": True})
    rows = history([0.8, 0.75, 0.7], [1.0, 0.5, 0.25])
    text = only(replace(records, finetune_history=rows))
    assert (
        "validation fell from 0.8 at step 100 to 0.7 at step 300, while the training loss went on from 1 to 0.25"
        in text
    )
    assert next_steps(replace(records, finetune_history=history([0.8, 0.75, 0.7], [1.0, 0.5, 1.0]))) == []
    assert next_steps(replace(records, finetune_history=history([0.8, 0.79, 0.79], [1.0, 0.5, 0.2]))) == []


def test_training_that_was_still_rising_is_to_be_longer(records: RunRecords) -> None:
    last = records.recipe.finetune.steps
    records.finetune.update({"best_step": last, "steps": last, "stopped_early": False})
    assert f"finetune.steps is {last}" in only(records)


def test_a_wide_interval_tells_how_many_groups_would_halve_it(records: RunRecords) -> None:
    records.metrics["image"]["auroc"] = {"value": 0.8, "low": 0.71, "high": 0.71 + 1.8 * WIDE}
    text = only(records)
    assert "known to 0.18 only, from 60 independent groups (40 defective images)" in text
    assert "240 groups" in text


def test_few_defects_in_a_narrow_interval(records: RunRecords) -> None:
    records.metrics["counts"]["defective"] = 12
    assert only(records).startswith("Collect more defective parts")


def test_empty_masks_are_to_be_drawn_where_pixels_count(records: RunRecords) -> None:
    records.audit["empty_masks"] = ["a.png", "b.png"]
    assert "Draw the defects of 2 defective pictures whose mask is empty" in only(records)
    records.metrics["pixel"] = None
    assert next_steps(records) == []


def test_one_run_does_not_say_what_labels_are_worth(records: RunRecords) -> None:
    records.finetune["labels"] = dict.fromkeys(records.finetune["labels"], 10)
    text = only(records)
    assert "finetune.labels_per_class=20" in text
    assert "one run cannot tell" in text
    there = records.audit["splits"]["train"]
    records.finetune["labels"] = there | {"good": 10}  # no defect is left to be labelled
    assert next_steps(records) == []


def test_a_hostile_class_is_text(tmp_path: Path) -> None:
    found = read_run(build(tmp_path, Fake(count=240, gradcam=0, defects=("crack", NASTY_CLASS))), tmp_path)
    found.metrics["classes"][NASTY_CLASS]["image"]["recall"] = {"value": 0.1, "low": 0.0, "high": 0.2}
    whole = "".join(next_steps(found))
    assert "&lt;script&gt;" in whole
    assert "<script>" not in whole


def test_wilson_is_that_of_scipy() -> None:
    for count, of in ((9, 80), (0, 40), (40, 40)):
        expected = binomtest(count, of).proportion_ci(0.95, method="wilson")
        assert wilson(count, of, 1.959963984540054) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_training_that_stopped_before_a_pass_should_be_more_patient(records: RunRecords) -> None:
    labelled, settings = sum(records.finetune["labels"].values()), records.recipe.finetune
    steps = (labelled - 1) // settings.batch_size
    records.finetune.update(steps=steps, best_step=1, stopped_early=True)
    history = [{"step": 1.0, "validation": 0.9}, {"step": float(steps), "validation": 0.9}]
    records = replace(records, finetune_history=history)
    assert only(records) == (
        f"Be more patient: training was stopped at step {steps}, after {steps * settings.batch_size} images drawn "
        f"where {labelled} are labelled (finetune.patience is {settings.patience}, finetune.eval_every "
        f"{settings.eval_every})."
    )
