"""The row that validation chooses: without a look at the test images, so that its test value is not flattered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_defect.table.expand import baseline_of
from ssl_defect.table.measure import VARIOUS, Measured, better
from ssl_defect.table.results import Result, Results, groups
from ssl_defect.table.statistics import holm


@dataclass(frozen=True, eq=False)
class Question:
    """Which of the rows that differ in the axes of the baseline alone is to be taken.

    Attributes:
        base: the baseline; `rows`: those with a value on test, it among them.
        chosen: the row that validation chooses; None where it cannot.
        p: of the chosen row's difference from the baseline, corrected over all questions; None where there is none.
        over: how many these are.
    """

    base: Result
    rows: Sequence[Result]
    chosen: Result | None = None
    p: float | None = None
    over: int = 0

    @property
    def highest(self) -> Result:
        """The row that is best on test."""
        return max(self.rows, key=lambda one: better(one.metric) * value_of(one))

    @property
    def taken(self) -> Result:
        """What validation chooses; where it cannot, the baseline, unless the best on test is shown to be better."""
        return self.chosen or (self.highest if self.highest.verdict == "better" else self.base)


def value_of(one: Result) -> float:
    """The mean of a row with a value."""
    assert one.entry is not None
    return float(one.entry["value"])


def questions(results: Results) -> list[Question]:
    """One for each group with a finished baseline and another row, by the first of the table's metrics that it has."""
    by_metric = [groups(results.of(metric), results.table) for metric in results.table.metrics]
    found = [one for same in zip(*by_metric, strict=True) for one in _first(same, results)]
    own, means = ([k for k, one in enumerate(found) if bool(one.base.cell.over) == kind] for kind in (False, True))
    for some in (own, means):  # means over other groups are corrected among themselves, as in the table
        asked = [_p(found[k], results) for k in some]
        over = sum(p is not None for p in asked)
        for k, p in zip(some, holm(asked), strict=True):
            found[k] = replace(found[k], p=None if found[k].chosen in (None, found[k].base) else p, over=over)
    return found


def _first(group: Sequence[Sequence[Result]], results: Results) -> list[Question]:
    """The question of a group, given its results by each metric; none where no metric has two of its rows."""
    for some in group:
        rows = [one for one in some if one.entry is not None and one.entry["value"] is not None]
        base = _base(rows, results)
        if base is not None and len(rows) > 1:
            return [Question(base, rows, _chosen(rows, base, results))]
    return []


def _base(rows: Sequence[Result], results: Results) -> Result | None:
    cells = {cell for one in rows if (cell := baseline_of(one.cell, results.cells, results.table))}
    return next((one for one in rows if one.cell in cells), None)


def _chosen(rows: Sequence[Result], base: Result, results: Results) -> Result | None:
    """The row with the highest mean over the seeds on validation, between equals the baseline.

    Of several folds each must choose it by its own validation, since what validates in one is tested in another. Rows
    with other seeds than the baseline's, as where some are still to come, are not chosen. None where folds do not
    agree, or validation cannot choose: a detector from good images has no such value, and values of different metrics
    or pictures say nothing beside each other.
    """
    own = results.measured[base.cell.name]
    there = [base, *(one for one in rows if one is not base and results.measured[one.cell.name].seeds == own.seeds)]
    found = [results.measured[one.cell.name] for one in there]
    if len(there) < 2 or not own.chosen_by or not all(_beside(one, own) for one in found):
        return None
    places = np.array([one.validation.mean(axis=1) for one in found]).argmax(axis=0)  # in each fold
    return there[places[0]] if (places == places[0]).all() else None


def _beside(one: Measured, own: Measured) -> bool:
    same = one.chosen_by == own.chosen_by and one.tested_on == own.tested_on != VARIOUS
    return same and bool(np.isfinite(one.validation).all())


def _p(asked: Question, results: Results) -> float | None:
    """A question that validation answers with the baseline, or on which folds do not agree, counts among the others."""
    if asked.chosen is None:
        return 1.0 if results.measured[asked.base.cell.name].chosen_by else None
    if asked.chosen is asked.base:
        return 1.0
    return asked.chosen.change["p"] if asked.chosen.change else None
