"""A cell over several folds: its mean, the sum of the folds' variances, and intervals that cover as they say."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssl_defect.evaluate.bootstrap import leave_out, point
from ssl_defect.evaluate.spread import of_groups
from ssl_defect.table.expand import Cell
from ssl_defect.table.folds import over_folds
from ssl_defect.table.measure import Measured, paired

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
from coverage_models import Array, Scores
from interval_coverage import Row

CELL = Cell({"start": "a"}, "a", {})


def measured(points: Array, without: Array, tested_on: str, **more: dict[str, str]) -> Measured:
    costs: list[dict[str, float | None]] = [{"training": float(len(tested_on))}]
    seeds = list(range(len(points)))
    found = {"image auroc": np.asarray(points, np.float64)}
    apart, best = more.get("apart", {}), found["image auroc"][None] + len(tested_on) / 10
    return Measured(CELL, seeds, found, {"image auroc": without}, tested_on, apart, costs, best, "AUROC")


def test_the_mean_over_folds_varies_with_the_groups_of_each_by_a_part() -> None:
    rng = np.random.default_rng(3)
    sides = [measured([0.6, 0.8], 0.7 + 0.1 * rng.normal(size=(2, n)), name) for n, name in ((40, "a"), (25, "bbb"))]
    found = over_folds(sides)
    assert found.points["image auroc"] == pytest.approx([0.6, 0.8])
    assert found.without["image auroc"].shape == (2, 65)
    each = [of_groups(side.without["image auroc"].mean(axis=0)).variance for side in sides]
    whole = of_groups(found.without["image auroc"].mean(axis=0)).variance
    assert whole == pytest.approx(sum(each) / 4, rel=0.05)
    assert found.cost("training") == 2
    assert found.validation == pytest.approx(np.array([[0.7, 0.9], [0.9, 1.1]]))  # 0.1 and 0.3 more than on test
    assert found.chosen_by == "AUROC"
    assert over_folds([sides[0], replace(sides[1], chosen_by="pixel AP")]).chosen_by == ""
    assert over_folds(sides[:1]) is sides[0]


def test_what_cannot_be_paired_on_one_fold_cannot_be_paired() -> None:
    points, left = np.array([0.5]), np.full((1, 4), 0.5)
    whole = over_folds([measured(points, left, "a"), measured(points, left, "b")])
    other = over_folds([measured(points, left, "a"), measured(points, left, "c")])
    assert paired(whole, other, "image auroc", 0.95)["why"] == "not tested on the same images"
    various = over_folds([measured(points, left, "a"), measured(points, left, "various")])
    assert paired(various, various, "image auroc", 0.95)["why"] == "not tested on the same images"
    coarse = measured(points, left, "b", apart={"image auroc": "seed 0: too coarse"})
    assert paired(over_folds([measured(points, left, "a"), coarse]), whole, "image auroc", 0.95)["why"] == (
        "fold 2, seed 0: too coarse"
    )


def test_intervals_over_folds_cover_and_are_narrower_than_those_of_one() -> None:
    """Three folds of 30 groups, three seeds, detectors as strong as their seed and fold make them: 300 sets."""
    gap, held, widths, model = 0.5, 0, np.zeros(2), Scores(1.2)
    wanted = Row(model, ("auroc",), gap, 3, 0.2).truth()["auroc"]
    for draw in range(300):
        rng = np.random.default_rng([11, draw])
        folds: list[list[Measured]] = [[], []]
        for fold in range(3):
            shifts = 0.2 * rng.normal(size=6) + np.repeat([0.0, gap], 3)
            families, group, _ = model.families(rng, 30, shifts)
            points = np.array([point(one, len(group))["auroc"] for one in families])
            left = np.stack([one["auroc"] for one in leave_out(families, group)])
            for arm, side in enumerate(folds):
                some = slice(3 * arm, 3 * arm + 3)
                side.append(measured(points[some], left[some], str(fold)))
        whole = paired(over_folds(folds[1]), over_folds(folds[0]), "image auroc", 0.95)
        single = paired(folds[1][0], folds[0][0], "image auroc", 0.95)
        held += whole["low"] <= wanted <= whole["high"]
        widths += [whole["high"] - whole["low"], single["high"] - single["low"]]
    assert held / 300 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 300)
    assert widths[0] < 0.75 * widths[1]
