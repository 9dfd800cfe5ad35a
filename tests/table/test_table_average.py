"""Means over budgets: by hand, corrected among themselves, covering as they say, and written beside the others."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_table import write

from ssl_defect.artifacts import digest
from ssl_defect.evaluate.bootstrap import leave_out, point
from ssl_defect.table.average import average, means_of
from ssl_defect.table.command import Request, make
from ssl_defect.table.expand import Cell, cells_of
from ssl_defect.table.layout import grids
from ssl_defect.table.measure import Measured, paired
from ssl_defect.table.protocol import digest_of, notes
from ssl_defect.table.results import Results, judge
from ssl_defect.table.settings import TableSettings
from ssl_defect.table.statistics import holm

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
from coverage_models import Array, Scores
from interval_coverage import Row

STARTS, BUDGETS = ("none", "imagenet", "mae"), ("1", "5", "10")
MEAN = "mean of 5, 10"
COST: dict[str, float | None] = dict.fromkeys(("pretraining", "training", "speed", "memory", "size"))


def table_of(**more: Any) -> TableSettings:
    matrix = {"start": {name: {} for name in STARTS}, "labels": {name: {} for name in BUDGETS}}
    whole = {"name": "t", "base": {}, "matrix": matrix, "baseline": {"start": "none"}, "columns": ["labels"]}
    return TableSettings.model_validate(whole | {"average": {"labels": [5, 10]}} | more)


def measured(cell: Cell, seeds: tuple[int, ...] = (0, 1, 2), tested_on: str = "these", blocks: int = 30) -> Measured:
    """About 0.6, 0.7 and 0.8 by start, varying by cell, seed and block."""
    rng = np.random.default_rng(sum(map(ord, cell.name)))
    points = 0.6 + 0.1 * STARTS.index(cell.labels["start"]) + 0.02 * rng.normal(size=len(seeds))
    without = points[:, None] + 0.002 * rng.normal(size=(len(seeds), blocks))
    fact = {"split": "group", "split_digest": "abc", "counts": {"test": 9, "defective": 4, "groups": 5},
            "machine": {"processor": "Test CPU", "cores": 2}, "versions": {"python": "3"}, "ending": ""}  # fmt: skip
    facts: list[dict[str, Any]] = [fact] * len(seeds)
    kept, best = {"image auroc": without}, points[None] + 0.05
    return Measured(cell, list(seeds), {"image auroc": points}, kept, tested_on, {}, [COST], best, "AUROC", facts)


def results(table: TableSettings, leave: tuple[str, ...] = (), **more: Any) -> Results:
    cells = cells_of(table)
    found = {cell.name: measured(cell, **more) for cell in cells if cell.name not in leave}
    return judge(table, [*cells, *means_of(table, cells)], found, {}, 3)


def test_a_mean_is_that_of_its_cells_seed_by_seed_and_block_by_block() -> None:
    table = table_of()
    cells = cells_of(table)
    (mean, *_) = means_of(table, cells)
    assert mean.labels == {"start": "none", "labels": MEAN}
    assert [cell.name for cell in mean.over] == ["none-5", "none-10"]
    five, ten = measured(mean.over[0], (0, 1, 2)), measured(mean.over[1], (2, 0, 7))
    found = average(mean, {"none-5": five, "none-10": ten, "none-1": measured(cells[0])})
    assert found is not None
    assert found.seeds == [0, 2]  # those of both
    for kept in ("points", "without"):
        a, b = (getattr(one, kept)["image auroc"] for one in (five, ten))
        np.testing.assert_allclose(getattr(found, kept)["image auroc"], [(a[0] + b[1]) / 2, (a[2] + b[0]) / 2])
    np.testing.assert_allclose(found.validation, found.points["image auroc"][None] + 0.05)
    assert found.chosen_by == "AUROC"
    assert average(mean, {"none-5": five}) is None
    assert average(mean, {"none-5": five, "none-10": measured(mean.over[1], (8, 9))}) is None


def test_means_of_names_with_hyphens_are_kept_apart() -> None:
    matrix = {"encoder": {"a-b": {}, "a": {}}, "decoder": {"c": {}, "b-c": {}}, "labels": {"5": {}, "10": {}}}
    table = TableSettings.model_validate(
        {"name": "t", "base": {}, "matrix": matrix, "baseline": {"encoder": "a"}, "average": {"labels": ["5", "10"]}}
    )
    names = [cell.name for cell in means_of(table, cells_of(table))]
    assert len(set(names)) == len(names) == 4


def test_no_mean_where_the_matrix_lacks_a_value() -> None:
    table = table_of(exclude=[{"start": "mae", "labels": 10}])
    assert [cell.labels["start"] for cell in means_of(table, cells_of(table))] == ["none", "imagenet"]
    assert means_of(table_of(average={}), cells_of(table)) == []


def test_means_are_corrected_among_themselves_and_others_as_without_them() -> None:
    found, alone = results(table_of()), results(table_of(average={}))
    means = [one.change for one in found.every if one.cell.over and one.change]
    assert len(means) == 2
    assert [one["holm"] for one in means] == holm([one["p"] for one in means])
    own = [one for one in found.every if not one.cell.over]
    assert [(one.entry, one.change, one.verdict, one.winner) for one in own] == [
        (one.entry, one.change, one.verdict, one.winner) for one in alone.every
    ]
    five, ten = (one.change for one in found.every if one.cell.name in ("mae-5", "mae-10"))
    assert five is not None
    assert ten is not None
    assert means[1]["value"] == pytest.approx((five["value"] + ten["value"]) / 2)
    told = " ".join(notes(found, "base"))
    assert "corrected by Holm over all 6 differences of a metric" in told
    assert "Means over labels 5, 10 are paired alike, and corrected by Holm among these 2." in told


def test_a_recipe_without_a_mean_keeps_its_digest() -> None:
    plain, asked = table_of(average={}), table_of()
    settings = {key: value for key, value in plain.model_dump(mode="json").items() if key != "average"}
    assert digest_of(plain) == digest(settings)
    assert digest_of(asked) != digest_of(plain)


def test_a_mean_over_different_test_images_has_no_interval_and_no_difference() -> None:
    table = table_of()
    cells = cells_of(table)
    found = {cell.name: measured(cell, tested_on=cell.labels["labels"], blocks=ord(cell.name[-1])) for cell in cells}
    judged = judge(table, [*cells, *means_of(table, cells)], found, {}, 3)
    first, second = [one for one in judged.every if one.cell.over][:2]
    assert first.entry is not None
    assert first.entry["low"] is None
    assert first.entry["value"] == pytest.approx((_mean(judged, "none-5") + _mean(judged, "none-10")) / 2)
    assert second.change is not None
    assert second.change["why"] == "not tested on the same images"


def _mean(judged: Results, name: str) -> float:
    return float(judged.measured[name].points["image auroc"].mean())


def test_a_mean_that_lacks_a_cell_is_not_run_and_one_that_nobody_has_is_left_out() -> None:
    some = grids(results(table_of(), leave=("mae-10",)))[0]
    assert some.heads == ["start", "labels 1", "labels 5", "labels 10", f"labels {MEAN}"]
    assert [row[-1].text == "not run" for row in some.rows] == [False, False, True]
    none = grids(results(table_of(), leave=("none-10", "imagenet-10", "mae-10")))[0]
    assert none.heads == ["start", "labels 1", "labels 5"]


def test_published_figures_stand_beside_what_was_run_alone() -> None:
    block = {"source": "A et al.", "metric": "image auroc", "values": [{"at": {"start": "mae"}, "value": 70}]}
    found = results(table_of(published=[block]))
    assert {bool(one.published) for one in found.every if one.cell.labels["start"] == "mae" and not one.cell.over} == {
        True
    }
    assert not any(one.published for one in found.every if one.cell.over)


def test_intervals_of_mean_differences_cover_and_are_narrower_than_those_of_one_budget() -> None:
    """Two budgets of three seeds over the same 40 groups of test images, 300 sets."""
    gap, held, widths, model = 0.5, 0, np.zeros(2), Scores(1.2)
    wanted = Row(model, ("auroc",), gap, 3, 0.2).truth()["auroc"]
    cells = [Cell({"labels": name}, name, {}) for name in ("5", "10")]
    mean = Cell({"labels": MEAN}, MEAN, {}, tuple(cells))
    for draw in range(300):
        rng = np.random.default_rng([13, draw])
        shifts = 0.2 * rng.normal(size=12) + np.repeat([0.0, gap], 6)
        families, group, _ = model.families(rng, 40, shifts)
        points = np.array([point(one, len(group))["auroc"] for one in families])
        left = np.stack([one["auroc"] for one in leave_out(families, group)])
        sides = [
            {cell.name: _arm(cell, points, left, 6 * arm + 3 * i) for i, cell in enumerate(cells)} for arm in (0, 1)
        ]
        base, other = (average(mean, side) for side in sides)
        assert base is not None
        assert other is not None
        whole = paired(other, base, "image auroc", 0.95)
        single = paired(sides[1]["5"], sides[0]["5"], "image auroc", 0.95)
        held += whole["low"] <= wanted <= whole["high"]
        widths += [whole["high"] - whole["low"], single["high"] - single["low"]]
    assert held / 300 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 300)
    assert widths[0] < 0.85 * widths[1]


def _arm(cell: Cell, points: Array, left: Array, first: int) -> Measured:
    some = slice(first, first + 3)
    found = {"image auroc": points[some]}
    return Measured(cell, [0, 1, 2], found, {"image auroc": left[some]}, "these", {}, [], points[None, some])


def test_a_table_writes_its_means(here: Path) -> None:
    recipe = write(here, average={"finetune.labels_per_class": [2, None]})
    make(Request(recipe, here / "out", 1))
    text = (here / "out" / "table.md").read_text()
    assert "| method | labels per class 2 | labels per class all | labels per class mean of 2, all |" in text
    assert "labels per class mean of 2, all: " in text.split("**image auroc**")[0]
    rows = list(csv.DictReader((here / "out" / "table.csv").read_text().splitlines()))
    of = {
        (row["pretrain.method"], row["finetune.labels_per_class"]): row for row in rows if row["metric"] == "pixel ap"
    }
    for method in ("none", "rotation"):
        each = [float(of[method, budget]["mean"]) for budget in ("2", "all")]
        assert float(of[method, "mean of 2, all"]["mean"]) == pytest.approx(np.mean(each))
        assert of[method, "mean of 2, all"]["pretraining"] == ""
    each = [float(of["rotation", budget]["difference"]) for budget in ("2", "all")]
    assert float(of["rotation", "mean of 2, all"]["difference"]) == pytest.approx(np.mean(each))
    assert ">mean of 2, all</text>" in (here / "out" / "differences-image_auroc.svg").read_text()
    assert "mean of" not in text.split("**cost, mean over seeds**")[1].split("\n- ")[0]
    assert "Means over labels per class 2, all are paired alike" in text
