"""What a table answers: the best row with its difference, the labels it saves, and the detector to take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_table_results import STRENGTH, measured

from ssl_defect.artifacts import write_json
from ssl_defect.report.endings import Ending
from ssl_defect.table.answer import answers, in_short, plain
from ssl_defect.table.expand import cells_of
from ssl_defect.table.protocol import notes
from ssl_defect.table.results import Results, judge
from ssl_defect.table.settings import TableSettings

MATRIX = {"start": {name: {} for name in STRENGTH}, "finetune.labels_per_class": [5, None]}


def results(strengths: dict[tuple[str, str], float], **more: Any) -> Results:
    whole: dict[str, Any] = {"name": "t", "base": {}, "matrix": MATRIX, "baseline": {"start": "none"}}
    table = TableSettings.model_validate(whole | more)
    cells = cells_of(table)
    found = {
        cell.name: measured(cell, strengths[cell.labels["start"], cell.labels.get("finetune.labels_per_class", "5")])
        for cell in cells
        if (cell.labels["start"], cell.labels.get("finetune.labels_per_class", "5")) in strengths
    }
    return judge(table, cells, found, {}, 3)


CLEAR = {("none", "5"): 0.3, ("moco", "5"): 1.8, ("none", "all"): 0.9, ("moco", "all"): 2.2}


def test_the_best_its_difference_and_the_labels_that_it_saves() -> None:
    found = results(CLEAR)
    by = {(one.cell.labels["start"], one.cell.labels["finetune.labels_per_class"]): one for one in found.every}
    few, every, saved, warning = answers(found, {})
    change = by["moco", "5"].change
    assert by["moco", "5"].verdict == "better"
    value = by["moco", "5"].entry["value"]
    assert few == (
        f"5 labels per class: **moco** is **best** by image auroc, {value:.3f}: {change['value']:+.3f} "
        f"({change['low']:+.3f} to {change['high']:+.3f}) over none, p "
        f"{change['holm']:.3g} corrected over 2 differences."
    )
    assert every.startswith("all labels: **moco** is **best**")
    assert saved.startswith(f"moco with 5 labels per class has image auroc {value:.3f}, none with all labels ")
    assert "highest on test was chosen by these images" in warning


def test_marks_of_strong_words_are_left_out_for_a_terminal() -> None:
    found = results(CLEAR)
    assert plain(answers(found, {})[0]).startswith("5 labels per class: moco is best by image auroc")
    assert not [line for line in answers(found, {}) if "**" in plain(line)]


def test_sentences_speak_in_the_unit_of_the_table() -> None:
    percent = results(CLEAR, unit="percent")
    by = {(one.cell.labels["start"], one.cell.labels["finetune.labels_per_class"]): one for one in percent.every}
    value, change = (100 * by["moco", "5"].entry["value"], by["moco", "5"].change)
    low, high = 100 * change["low"], 100 * change["high"]
    few, _, saved, _ = answers(percent, {})
    wanted = f"image auroc, {value:.1f}: {100 * change['value']:+.1f} ({low:+.1f} to {high:+.1f}) over none"
    assert wanted in few
    assert f"image auroc {value:.1f}, none with all labels {100 * by['none', 'all'].entry['value']:.1f}: " in saved
    gain = 100 * by["moco", "all"].change["value"]
    assert in_short(percent).endswith(f"all labels: moco ({gain:+.1f}).")


def test_one_seed_alone_is_said_to_be_one() -> None:
    cells = cells_of(results(CLEAR).table)
    found = {
        cell.name: measured(cell, CLEAR[pair], (0,)) for cell in cells if (pair := tuple(cell.labels.values())) in CLEAR
    }
    said = answers(judge(results(CLEAR).table, cells, found, {}, 1), {})
    assert sum(line.startswith("Where a cell has one seed alone") for line in said) == 1
    assert not [line for line in answers(results(CLEAR), {}) if "one seed" in line]


def test_no_labels_are_said_to_be_saved_where_none_are() -> None:
    found = answers(results(CLEAR | {("none", "all"): 3.0, ("moco", "all"): 3.1}), {})
    assert not [line for line in found if "with 5 labels per class has" in line]


def test_a_best_within_chance_is_not_called_better_and_not_taken(tmp_path: Path) -> None:
    found = results({("none", "5"): 0.6, ("mae", "5"): 0.75})
    change = next(one.change for one in found.every if one.change)
    values = {one.cell.labels["start"]: one.entry["value"] for one in found.every if one.entry}
    assert values["mae"] > values["none"]
    folders = {cell.name: [tmp_path / cell.name] for cell in found.cells}
    for (run,) in folders.values():
        (run / "finetune").mkdir(parents=True)
        write_json(run / "finetune" / "finetune.json", {})
    assert answers(found, folders)[0] == (
        f"5 labels per class: nothing is shown to be better than **none** by image auroc ({values['none']:.3f}). That "
        f"detector: `ssl-defect predict {tmp_path / 'none-5'} PICTURES --out FOLDER`. Highest on test is mae: "
        f"{values['mae']:.3f}, {change['value']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f}), p "
        f"{change['holm']:.3g} corrected over 1 difference."
    )


def test_a_baseline_in_front_and_a_table_without_one() -> None:
    assert answers(results({("none", "5"): 2.5, ("moco", "5"): 0.5}), {})[0].startswith(
        "5 labels per class: nothing is better than **none** by image auroc"
    )
    assert answers(results(CLEAR, baseline={}), {}) == []
    assert answers(results({("moco", "5"): 1.8, ("mae", "5"): 0.5}), {}) == []  # the baseline is not finished


def test_the_detector_is_the_seed_that_is_best_on_validation(tmp_path: Path) -> None:
    found = results(CLEAR)
    cell = next(c for c in found.cells if c.labels == {"start": "moco", "finetune.labels_per_class": "5"})
    runs = [tmp_path / f"seed{seed}" for seed in range(3)]
    for run, value in zip(runs, (0.2, 0.7, 0.7), strict=True):
        (run / "finetune").mkdir(parents=True)
        write_json(run / "finetune" / "finetune.json", {"best_validation": value})
    line = answers(found, {cell.name: runs})[0]
    assert line.endswith(f"That detector: `ssl-defect predict {runs[1]} PICTURES --out FOLDER`")
    for run in runs:
        write_json(run / "finetune" / "finetune.json", {})  # a detector of good images alone
    assert f"predict {runs[0]} " in answers(found, {cell.name: runs})[0]


def ended(ends: list[Ending | None], **more: Any) -> Results:
    """Cells of three seeds, of which fine-tuning ended as `ends` says, over and over."""
    found = results(CLEAR, **more)
    facts = [fact | {"ending": None} for one in found.measured.values() for fact in one.facts]
    for number, fact in enumerate(facts):
        fact["ending"] = ends[number % len(ends)]
    for place, one in enumerate(found.measured.values()):
        found.measured[one.cell.name] = replace(one, facts=facts[3 * place : 3 * place + 3])
    return found


LAST, EARLY, ENOUGH = Ending.BEST_LAST, Ending.BEFORE_A_PASS, Ending.ENOUGH


@pytest.mark.parametrize(
    ("ends", "warning"),
    [
        ([LAST, LAST, ENOUGH], "Validation was best at the last look in 8 of 12 fine-tunings: with more steps"),
        ([LAST, LAST, None], "Validation was best at the last look in 8 of 8 fine-tunings: with more steps"),
        ([ENOUGH, ENOUGH, EARLY], "4 of 12 fine-tunings were stopped before as many images had been drawn as are"),
        ([*[ENOUGH] * 11, EARLY], "1 of 12 fine-tunings was stopped before as many images had been drawn as are"),
    ],
)
def test_fine_tunings_that_ended_too_soon_are_a_warning(ends: list[Ending | None], warning: str) -> None:
    found = ended(ends)
    said = answers(found, {})
    assert [line.startswith(warning) for line in said] == [False] * 4 + [True]
    assert not [line for line in notes(found, "here", said) if line.startswith(warning)]
    assert [line for line in notes(ended(ends, baseline={}), "here") if line.startswith(warning)]


@pytest.mark.parametrize("ends", [[LAST, ENOUGH], [ENOUGH], [None]])
def test_no_warning_where_half_of_them_had_enough_or_none_chose_a_step(ends: list[Ending | None]) -> None:
    found = ended(ends)
    assert not [line for line in [*answers(found, {}), *notes(found, "here")] if "fine-tunings" in line]


def test_both_warnings_where_both_are_due() -> None:
    assert [line.split(" ")[0] for line in answers(ended([LAST, LAST, EARLY]), {})[-2:]] == ["Validation", "4"]
