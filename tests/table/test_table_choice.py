"""The row that validation chooses: on what grounds, what is said of it, and where it cannot choose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_table_results import STRENGTH, measured

from ssl_defect.artifacts import write_json
from ssl_defect.table.answer import answers, in_short
from ssl_defect.table.average import means_of
from ssl_defect.table.choice import Question, questions
from ssl_defect.table.expand import cells_of
from ssl_defect.table.measure import Measured
from ssl_defect.table.results import Results, judge
from ssl_defect.table.settings import TableSettings
from ssl_defect.table.statistics import holm
from ssl_defect.table.wording import LABELS, budget_of

ON_TEST = {("none", "5"): 0.6, ("mae", "5"): 0.7, ("moco", "5"): 1.8, ("none", "all"): 0.9, ("mae", "all"): 0.9}
AVERAGE = {"labels": ["5", "all"]}


def results(validation: dict[tuple[str, str], float], average: dict[str, Any] | None = None, **more: Any) -> Results:
    """Rows as strong on test as `ON_TEST` has it, each with its mean on validation; `more` changes cells."""
    matrix = {"start": {name: {} for name in STRENGTH}, "labels": {"5": {LABELS: 5}, "all": {LABELS: None}}}
    table = TableSettings.model_validate(
        {"name": "t", "base": {}, "matrix": matrix, "baseline": {"start": "none"}, "average": average or {}}
    )
    cells = [cell for cell in cells_of(table) if tuple(cell.labels.values()) in ON_TEST]
    found = {}
    for cell in cells:
        place = (cell.labels["start"], cell.labels["labels"])
        best = validation.get(place, 0.0) + np.array([[-0.1, 0.0, 0.1]])
        found[cell.name] = replace(measured(cell, ON_TEST[place]), validation=best, chosen_by="AUROC")
        found[cell.name] = replace(found[cell.name], **more.get("-".join(place), {}))
    return judge(table, [*cells, *means_of(table, cells_of(table))], found, {}, 3)


def asked(found: Results, budget: str = "5") -> Question:
    return next(one for one in questions(found) if one.base.cell.labels["labels"] == budget)


def name(question: Question) -> str | None:
    return question.chosen.cell.labels["start"] if question.chosen else None


def test_it_takes_the_best_on_validation_whatever_the_test_says() -> None:
    found = results({("mae", "5"): 0.8, ("moco", "5"): 0.7, ("none", "5"): 0.6})
    question = asked(found)
    assert name(question) == "mae"
    assert question.taken is question.chosen
    assert question.highest.cell.labels["start"] == "moco"
    line = answers(found, {})[0]
    change, best = question.taken.change, question.highest
    assert change
    assert best.change
    assert best.entry
    ends, others = (f"{one['low']:+.3f} to {one['high']:+.3f}" for one in (change, best.change))
    assert line == (
        f"5 labels per class: validation (AUROC) chooses **mae**: image auroc {question.taken.entry['value']:.3f} on "
        f"test, not shown to be better than none: {change['value']:+.3f} ({ends}), p {question.p:.3g} corrected over "
        f"2 choices. Highest on test is moco: {best.entry['value']:.3f}, {best.change['value']:+.3f} ({others}), p "
        f"{best.change['holm']:.3g} corrected over 3 differences."
    )


def test_a_group_is_asked_by_the_first_metric_that_it_has() -> None:
    """As where some cells classify and others outline."""
    found = results({("mae", "5"): 0.8})
    table = found.table.model_copy(update={"metrics": ["pixel ap", "image auroc"]})
    measured_by = {}
    for key, one in found.measured.items():
        (points,), (without,) = one.points.values(), one.without.values()
        own, other = reversed(table.metrics) if one.cell.labels["labels"] == "5" else table.metrics
        measured_by[key] = replace(
            one,
            points={own: points, other: np.full_like(points, np.nan)},
            without={own: without, other: np.full_like(without, np.nan)},
        )
    mixed = judge(table, found.cells, measured_by, {}, 3)
    by = {one.base.cell.labels["labels"]: one.base.metric for one in questions(mixed)}
    assert by == {"5": "image auroc", "all": "pixel ap"}
    said = answers(mixed, {})
    assert said[0].startswith("5 labels per class: validation (AUROC) chooses **mae**: image auroc ")
    assert said[1].startswith("all labels: validation (AUROC) chooses **none** itself: pixel ap ")
    assert not [line for line in said if " with all labels " in line]  # labels saved: of one metric alone
    assert in_short(mixed) == "**In short, nothing is shown to be better than none**."


def test_one_that_is_better_beyond_doubt_is_called_so_and_one_that_is_worse_too() -> None:
    better = results({("moco", "5"): 0.8})
    line = answers(better, {})[0]
    assert " on test, **better than none**: +0." in line
    assert "Highest" not in line
    assert asked(better).p < 0.05
    worse = results({("mae", "5"): 0.8}, **{"mae-5": {"points": {"image auroc": np.array([0.2, 0.2, 0.2])}}})
    assert " on test, **worse than none**: -0." in answers(worse, {})[0]


def test_what_the_table_does_not_mark_is_said_to_be_so() -> None:
    """Chosen beforehand it is corrected for the choices alone; the table corrects for all its rows."""
    found = results({("moco", "5"): 0.8})
    assert "not marked" not in answers(found, {})[0]
    taken = asked(found).taken
    assert taken.change
    taken.change["holm"], taken.verdict = 0.116, ""
    assert answers(found, {})[0].endswith("; not marked in the table, p 0.116 corrected over 3 differences.")


def test_it_may_take_the_baseline_and_does_between_equals() -> None:
    for values in ({("none", "5"): 0.9}, {}):
        found = results(values)
        assert name(asked(found)) == "none"
        assert asked(found).p is None
        line = answers(found, {})[0]
        assert line.startswith("5 labels per class: validation (AUROC) chooses **none** itself: image auroc ")
        assert ". Highest on test is moco: " in line


def test_p_is_corrected_for_the_number_of_questions_those_of_the_baseline_among_them() -> None:
    both = results({("moco", "5"): 0.8, ("mae", "all"): 0.8})
    raw = [asked(both, budget).taken.change["p"] for budget in ("5", "all")]
    assert [asked(both, budget).p for budget in ("5", "all")] == holm(raw)
    one = results({("moco", "5"): 0.8, ("none", "all"): 0.8})
    assert asked(one).p == pytest.approx(min(1, 2 * raw[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"validation": np.array([[np.nan, 0.5, 0.5]])},
        {"validation": np.full((1, 3), np.nan), "chosen_by": ""},
        {"chosen_by": "pixel AP"},
        {"tested_on": "others"},
    ],
)
def test_values_that_cannot_be_set_beside_each_other_choose_nothing(change: dict[str, Any]) -> None:
    found = results({("mae", "5"): 0.8}, **{"mae-5": change})
    assert name(asked(found)) is None
    assert asked(found).p is None
    assert asked(found).taken.cell.labels["start"] == "moco"
    line, *others = answers(found, {})
    assert line.startswith("5 labels per class: **moco** is **best** by image auroc, ")
    assert "validation (AUROC) chooses **none** itself" in others[0]
    warnings = [line for line in others if "(Holm)" in line]
    assert [line.split(" ")[0] for line in warnings] == ["Validation", "What"]


def test_a_row_with_other_seeds_is_not_chosen_yet() -> None:
    found = results({("mae", "5"): 0.9, ("moco", "5"): 0.8}, **{"mae-5": {"seeds": [0, 1, 7]}})
    assert name(asked(found)) == "moco"
    alone = {"mae-5": {"seeds": [0, 1, 7]}, "moco-5": {"seeds": [2, 3, 4]}}
    assert name(asked(results({("mae", "5"): 0.9}, **alone))) is None


def test_of_several_folds_each_must_choose_it() -> None:
    """What validates in one fold is tested in another, so that a mean over the folds would have seen test pictures."""
    rows = {"none-5": [0.5, 0.5], "mae-5": [0.6, 0.4], "moco-5": [0.7, 0.6]}
    folds = {name: {"validation": np.array([[value] * 3 for value in two])} for name, two in rows.items()}
    assert name(asked(results({}, **folds))) == "moco"
    folds["mae-5"] = {"validation": np.array([[0.9] * 3, [0.55] * 3])}
    found = results({("mae", "all"): 0.8}, **folds)
    assert name(asked(found)) is None
    raw = asked(found, "all").taken.change["p"]
    assert asked(found, "all").p == pytest.approx(min(1, 2 * raw))  # it was asked of both
    assert answers(found, {})[0].startswith("5 labels per class: **moco** is **best** by image auroc, ")


def test_a_mean_over_budgets_goes_by_the_mean_on_validation() -> None:
    found = results({("mae", "5"): 0.9, ("none", "all"): 0.5, ("none", "5"): 0.3}, AVERAGE)
    question = asked(found, "mean of 5, all")
    assert name(question) == "mae"  # 0.45 for 0.4
    assert question.p == question.taken.change["p"]  # the only mean that is asked of
    assert found.measured[question.taken.cell.name].validation == pytest.approx(np.array([[0.35, 0.45, 0.55]]))


def test_the_detector_is_of_what_is_taken(tmp_path: Path) -> None:
    found = results({("mae", "5"): 0.8})
    folders = {cell.name: [tmp_path / cell.name] for cell in found.cells}
    for (run,) in folders.values():
        (run / "finetune").mkdir(parents=True)
        write_json(run / "finetune" / "finetune.json", {"best_validation": 0.5})
    assert (
        f". That detector: `ssl-defect predict {tmp_path / 'mae-5'} PICTURES --out FOLDER`. Highest on"
        in (answers(found, folders)[0])
    )


def test_labels_are_saved_by_what_validation_chooses_not_by_the_best_on_test() -> None:
    assert not [line for line in answers(results({("none", "5"): 0.8}), {}) if "labels per class has" in line]
    saved = [line for line in answers(results({("moco", "5"): 0.8}), {}) if "labels per class has" in line]
    assert [line.startswith("moco with 5 labels per class has image auroc ") for line in saved] == [True]


def test_other_numbers_than_labels_save_none() -> None:
    matrix = {"start": {name: {} for name in STRENGTH}, "data.image_size": [64, 128]}
    table = TableSettings.model_validate({"name": "t", "base": {}, "matrix": matrix, "baseline": {"start": "none"}})
    for cell in cells_of(table):
        assert budget_of(cell, Results(table, [], {}, [], {}, {})) is None


def test_the_choice_by_validation_is_not_flattered_and_that_by_test_is() -> None:
    """Eight rows without a true difference, 400 times: groups of test images are shared, seeds and draws are not."""
    rng, times, groups = np.random.default_rng(0), 400, 25
    matrix = {"start": {str(name): {} for name in range(8)}}
    table = TableSettings.model_validate({"name": "t", "base": {}, "matrix": matrix, "baseline": {"start": "0"}})
    cells = cells_of(table)
    taken: dict[str, list[float]] = {"validation": [], "test": []}
    covered = 0
    for _ in range(times):
        hard = rng.normal(size=groups)
        found = {}
        for cell in cells:
            values = hard + rng.normal(size=(3, groups)) + 0.3 * rng.normal(size=(3, 1))
            points = values.mean(axis=1)
            without = (values.sum(axis=1, keepdims=True) - values) / (groups - 1)
            best = rng.normal(size=(1, 3))
            found[cell.name] = Measured(cell, [0, 1, 2], {"image auroc": points}, {"image auroc": without}, "these", {},
                                        [], best, "AUROC")  # fmt: skip
        (question,) = questions(judge(table, cells, found, {}, 3))
        for kind, one in (("validation", question.chosen), ("test", question.highest)):
            taken[kind].append(one.change["value"] if one and one.change else 0.0)
        change = question.taken.change
        covered += change is None or change["low"] <= 0 <= change["high"]
    chance = {kind: np.std(values) / np.sqrt(times) for kind, values in taken.items()}
    assert abs(np.mean(taken["validation"])) < 3 * chance["validation"]
    assert np.mean(taken["test"]) > 10 * chance["test"]
    assert covered / times > 0.95 - 3 * np.sqrt(0.95 * 0.05 / times)


@pytest.mark.parametrize(("defective", "said"), [(18, True), (29, True), (30, False)])
def test_validation_with_few_defective_images_is_called_so(defective: int, said: bool) -> None:
    found = results({("mae", "5"): 0.8})
    for place, (cell, one) in enumerate(list(found.measured.items())):
        judges = {"images": 72, "defective": defective if place == 1 else 40}
        found.measured[cell] = replace(one, facts=[fact | {"judges": judges} for fact in one.facts])
    warnings = [
        line for line in answers(found, {}) if line.startswith(f"Validation has {defective} defective among 72 ")
    ]
    assert bool(warnings) == said


def test_where_validation_does_not_choose_its_size_does_not_matter() -> None:
    found = results({}, **{name: {"chosen_by": ""} for name in ("none-5", "none-all")})
    for cell, one in list(found.measured.items()):
        few = [fact | {"judges": {"images": 72, "defective": 1}} for fact in one.facts]
        found.measured[cell] = replace(one, facts=few)
    assert not [line for line in answers(found, {}) if line.startswith("Validation has")]


def test_in_short_is_what_is_shown_or_how_much_may_be() -> None:
    unsure = results({("mae", "5"): 0.8, ("mae", "all"): 0.8})
    changes = [asked(unsure, budget).taken.change for budget in ("5", "all")]
    low, most, high = (
        min(c["value"] for c in changes),
        max(c["value"] for c in changes),
        max(c["high"] for c in changes),
    )
    assert high > 0
    assert in_short(unsure) == (
        "**In short, nothing is shown to be better than none**: what validation chooses differs by "
        f"{low:+.3f} to {most:+.3f} of image auroc (intervals reach to {high:+.3f})."
    )
    sure = results({("moco", "5"): 0.8, ("mae", "all"): 0.8})
    gain = asked(sure).taken.change["value"]  # type: ignore[index]
    assert in_short(sure) == (
        f"**In short, better than none**: 5 labels per class: moco ({gain:+.3f}); nothing else is shown to be."
    )
    themselves = results({("none", "5"): 0.9, ("none", "all"): 0.9})
    assert in_short(themselves) == "**In short, nothing is shown to be better than none**."
    good_alone = {name: {"chosen_by": ""} for name in ("none-5", "none-all")}  # where validation cannot choose
    best = asked(results({}, **good_alone)).highest
    assert f"5 labels per class: moco ({best.change['value']:+.3f})" in in_short(results({}, **good_alone))  # type: ignore[index]


def test_what_may_be_gained_ends_where_the_metric_does() -> None:
    found = results({("none", "all"): 0.8})
    for name, values, best in (("none-5", [0.8, 0.6], 0.5), ("mae-5", [0.5, 0.95], 0.6)):
        one = found.measured[name]
        parts = {"image auroc": one.without["image auroc"][:2]}
        points = {"image auroc": np.array(values)}
        validation = np.full((1, 2), best)
        found.measured[name] = replace(one, seeds=[0, 1], points=points, without=parts, validation=validation)
    found = judge(found.table, found.cells, found.measured, {}, 3)
    change = asked(found).taken.change
    assert change
    assert change["high"] > 0.3
    assert in_short(found).endswith(" of image auroc (its interval reaches to +0.300).")


def test_one_answer_needs_no_summary() -> None:
    found = results({("mae", "5"): 0.8})
    one = [name for name in found.measured if name.endswith("5")]
    table = found.table.model_copy(update={"baseline": {}})
    assert in_short(replace(found, table=table)) == ""
    cells = [cell for cell in found.cells if cell.name in one]
    alone = judge(found.table, cells, {name: found.measured[name] for name in one}, {}, 3)
    assert len(questions(alone)) == 1
    assert in_short(alone) == ""
