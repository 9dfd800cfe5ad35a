"""What a table answers, in sentences: what is best, by how much, with how few labels, and where that detector lies."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_defect.artifacts import read_json
from ssl_defect.report.endings import too_short
from ssl_defect.table.choice import Question, questions, value_of
from ssl_defect.table.layout import number
from ssl_defect.table.measure import Entry, better, paired
from ssl_defect.table.results import Result, Results
from ssl_defect.table.settings import VALIDATION
from ssl_defect.table.wording import budget_of, corrected, difference, labels, mean, place, row

Folders = Mapping[str, Sequence[Path]]  # name of a cell -> folders of its finished runs
STRONG = "**"  # around words that a reader should see first, as Markdown has it
FEW_JUDGES = 30  # defective validation images: an AUROC of 0.9 then has a standard error of 0.04 (Hanley & McNeil 1982)
_OF_ONE_SEED = (
    "Where a cell has one seed alone, its intervals and p know the chance of the test images, not that of training: "
    "the next seed may turn it round."
)
_OF_FOLDS = (
    "A row is chosen only where each fold's own validation chooses it, since what validates in one fold is tested in "
    "another. A detector of a fold has learned nothing from that fold's pictures: `--set folds=0` and another `--out` "
    "make one that spares fewer."
)


def answers(results: Results, folders: Folders) -> list[str]:
    """A sentence per group of cells that differ in the axes of the baseline alone, then one on labels saved.

    By the first metric of the table that the group has, of the row that validation chooses; where it cannot, of the
    baseline, unless a row is shown to be better. Words between `STRONG` are to be seen first. None for a table without
    a baseline, or where a group has no second cell, or of validation: what it shows is for choosing.
    """
    asked = _asked(results)
    if not asked:
        return []
    saved = _labels_saved(asked, results)
    return [
        *(_answer(one, results, folders) for one in asked),
        *([saved] if saved else []),
        *_how_chosen(asked, results),
        *([_OF_ONE_SEED] if any(len(one.seeds) == 1 for one in results.measured.values()) else []),
        *unfinished(results),
        *([_OF_FOLDS] if results.table.folds else []),
    ]


def _asked(results: Results) -> list[Question]:
    choosing = results.table.metrics[0] == VALIDATION
    return questions(results) if results.table.baseline and not choosing else []


def in_short(results: Results) -> str:
    """What several answers come to: what is shown to be better than the baseline, or how much better it may be.

    Empty where `answers` has one or none.
    """
    asked = _asked(results)
    if len(asked) < 2:
        return ""
    base, metrics = row(asked[0].base.cell, results), list(dict.fromkeys(one.base.metric for one in asked))
    taken = [(one, _gain(one, results)) for one in asked]
    found = [f"{place(one.base.cell, results)}{row(one.taken.cell, results)} ({gain})" for one, gain in taken if gain]
    if found:
        rest = "; nothing else is shown to be" if len(found) < len(asked) else ""
        return f"{STRONG}In short, better than {base}{STRONG}: {'; '.join(found)}{rest}."
    text = f"{STRONG}In short, nothing is shown to be better than {base}{STRONG}"
    changes = [(one.chosen.change, _room(one.base)) for one in asked if one.chosen and one.chosen.change]
    known = [(change["value"], min(change["high"], room)) for change, room in changes if change["high"] is not None]
    if not known or len(metrics) > 1 or better(metrics[0]) < 0:
        return f"{text}."
    values, reach = [value for value, _ in known], max(0.0, *(high for _, high in known))
    least, most, far_end = (number(one, results.table, True, metrics[0]) for one in (min(values), max(values), reach))
    span = least if len(known) == 1 else f"{least} to {most}"
    far = "intervals reach" if len(known) > 1 else "its interval reaches"
    return f"{text}: what validation chooses differs by {span} of {metrics[0]} ({far} to {far_end})."


def plain(text: str) -> str:
    """Without the marks of strong words, for a terminal."""
    return text.replace(STRONG, "")


def unfinished(results: Results) -> list[str]:
    """Warnings where fine-tunings may not have had enough steps, or patience."""
    return too_short([fact["ending"] for one in results.measured.values() for fact in one.facts])


def _room(base: Result) -> float:
    """How much better than the baseline a metric can be: few seeds make intervals that reach past 1."""
    return float("inf") if base.metric.startswith("task ") else 1 - value_of(base)


def _gain(asked: Question, results: Results) -> str:
    """The difference of what is taken, if it is shown to be better than the baseline, else empty."""
    change = asked.taken.change or {}
    if asked.taken is asked.base or not change:
        return ""
    p = asked.p if asked.chosen else change["holm"]
    shown = _word(change, p, asked.taken.metric, results.table.level) == "better"
    return number(change["value"], results.table, True, asked.taken.metric) if shown else ""


def _answer(asked: Question, results: Results, folders: Folders) -> str:
    detector = _detector(folders.get(asked.taken.cell.name, []))
    texts = [
        _by_validation(asked, asked.chosen, results) if asked.chosen else _by_test(asked, results),
        f"That detector: `ssl-defect predict {detector} PICTURES --out FOLDER`" if detector else "",
        _highest(asked, results) if asked.taken is not asked.highest else "",
    ]
    text = ". ".join(filter(None, texts))
    return text if text.endswith("`") else f"{text}."


def _by_validation(asked: Question, chosen: Result, results: Results) -> str:
    """What validation chooses, and how it does on test."""
    where, against = place(asked.base.cell, results), row(asked.base.cell, results)
    by = results.measured[asked.base.cell.name].chosen_by
    text = f"{where}validation ({by}) chooses {STRONG}{row(chosen.cell, results)}{STRONG}"
    if chosen is asked.base:
        return f"{text} itself: {chosen.metric} {mean(chosen, results)} on test"
    change = chosen.change or {}
    word = _word(change, asked.p, chosen.metric, results.table.level)
    sure = f"{STRONG}{word} than {against}{STRONG}" if word else f"not shown to be better than {against}"
    more = corrected(asked.p, asked.over, "choice") + _unmarked(chosen, word, results)
    by_how_much = difference(change, chosen.metric, results)
    return f"{text}: {chosen.metric} {mean(chosen, results)} on test, {sure}: {by_how_much}{more}"


def _word(change: Entry, p: float | None, metric: str, level: float) -> str:
    """`better` or `worse`, where the difference says so beyond doubt."""
    low, high = change.get("low"), change.get("high")
    if low is None or high is None or p is None or p >= 1 - level or low <= 0 <= high:
        return ""
    return "better" if better(metric) * change["value"] > 0 else "worse"


def _highest(asked: Question, results: Results) -> str:
    best = asked.highest
    more = f", {difference(best.change, best.metric, results)}{_by_holm(best, results)}" if best.change else ""
    return f"Highest on test is {row(best.cell, results)}: {mean(best, results)}{more}"


def _by_holm(one: Result, results: Results) -> str:
    over = results.corrected_over(one.metric, of_means=bool(one.cell.over))
    return corrected(one.change["holm"] if one.change else None, over, "difference")


def _unmarked(chosen: Result, word: str, results: Results) -> str:
    """Where the table, which corrects for all its rows, does not mark what is shown for the row chosen beforehand."""
    if not word or chosen.verdict:
        return ""
    return f"; not marked in the table{_by_holm(chosen, results)}"


def _by_test(asked: Question, results: Results) -> str:
    """What is highest on test, if it is so by more than chance."""
    best, where, against = asked.highest, place(asked.base.cell, results), row(asked.base.cell, results)
    if asked.taken is asked.base:
        shown = "" if best is asked.base else "shown to be "
        text = f"{where}nothing is {shown}better than {STRONG}{against}{STRONG} by {best.metric}"
        return f"{text} ({mean(asked.base, results)})"
    change, more = difference(best.change or {}, best.metric, results), _by_holm(best, results)
    text = f"{where}{STRONG}{row(best.cell, results)}{STRONG} is {STRONG}best{STRONG} by {best.metric}"
    return f"{text}, {mean(best, results)}: {change} over {against}{more}"


def _how_chosen(asked: Sequence[Question], results: Results) -> list[str]:
    texts = []
    if any(one.chosen for one in asked):
        texts.append(
            "Validation chooses without the test images, so that they do not flatter what it takes; those differences "
            "are corrected for the number of such questions (Holm)."
        )
        texts += _few_judges(results)
    if any(one.chosen is not one.highest for one in asked):
        texts.append(
            "What is highest on test was chosen by these images, which flatters its value; its difference is corrected "
            "for the number of rows (Holm)."
        )
    return texts


def _few_judges(results: Results) -> list[str]:
    """A warning where validation has few defective images: it then hardly tells good rows apart."""
    counts = [fact["judges"] for one in results.measured.values() for fact in one.facts if fact.get("judges")]
    fewest = min(counts, key=lambda one: int(one["defective"]), default=None)
    if fewest is None or fewest["defective"] >= FEW_JUDGES:
        return []
    return [
        f"Validation has {fewest['defective']} defective among {fewest['images']} images: too few to tell close rows "
        "apart, so that other ones might choose another row."
    ]


def _detector(runs: Sequence[Path]) -> str:
    """Of the seeds the one that is best on validation; the first where validation does not say."""
    scored = [(read_json(run / "finetune" / "finetune.json").get("best_validation"), run) for run in runs]
    known = [(value, -place) for place, (value, _) in enumerate(scored) if value is not None]
    return shlex.quote(str(runs[-max(known)[1]] if known else runs[0])) if runs else ""


def _labels_saved(asked: Sequence[Question], results: Results) -> str:
    """The fewest labels with which what is taken reaches what the baseline reaches with the most it was given."""
    found = [(budget, one) for one in asked if (budget := budget_of(one.base.cell, results)) is not None]
    if len(found) < 2:
        return ""
    found.sort(key=lambda one: one[0])
    most, base = found[-1][0], found[-1][1].base
    sign = better(base.metric)
    for budget, one in found[:-1]:
        best = one.taken
        if best.metric == base.metric and sign * value_of(best) >= sign * value_of(base):
            mine, theirs = results.measured[best.cell.name], results.measured[base.cell.name]
            if mine.seeds != theirs.seeds:
                return ""  # their means are not of the same runs
            change = difference(paired(mine, theirs, base.metric, results.table.level), base.metric, results)
            return (
                f"{row(best.cell, results)} with {labels(budget)} has {base.metric} {mean(best, results)}, "
                f"{row(base.cell, results)} with {labels(most)} {mean(base, results)}: {change}."
            )
    return ""
