"""Cells compared, corrected, ranked and written, from made-up scores of test images."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError

from ssl_defect.evaluate.bootstrap import Resampling, leave_out, paired_difference, point
from ssl_defect.evaluate.metrics import Family, image_family
from ssl_defect.report.svg import Frame
from ssl_defect.table.diagram import diagram
from ssl_defect.table.expand import Cell, cells_of
from ssl_defect.table.forest import _ticks, forest
from ssl_defect.table.layout import _change, grids
from ssl_defect.table.measure import Measured, paired
from ssl_defect.table.protocol import notes
from ssl_defect.table.results import Result, Results, judge
from ssl_defect.table.settings import TableSettings
from ssl_defect.table.statistics import friedman, holm
from ssl_defect.table.write import RESERVED, csv_of, markdown, rows_of

SPEC = Resampling(draws=1000, level=0.95, seed=0)
IMAGES = 240
LABELS = (np.arange(IMAGES) % 2).astype(int)
GROUPS = np.arange(IMAGES) // 2 * 2  # pairs of near-copies
FACT = {
    "split": "group",
    "split_digest": "abc",
    "counts": {"test": IMAGES, "defective": IMAGES // 2, "groups": IMAGES // 2},
    "machine": {"processor": "Test CPU", "cores": 2},
    "versions": {"python": "3.11"},
    "ending": "enough",
}
COST: dict[str, float | None] = {"pretraining": 2.0, "training": 1.0, "speed": 3.5, "memory": 900.0, "size": None}


def family(strength: float, seed: int, chance: int = 0) -> Family:
    """Detectors of the same images: `strength` apart, with most of their noise in common."""
    common = np.random.default_rng(99).normal(0, 1, IMAGES)
    own = np.random.default_rng([seed, chance]).normal(0, 0.3, IMAGES)
    return image_family(LABELS, LABELS * strength + common + own, 0.5)


def measured(cell: Cell, strength: float, seeds: tuple[int, ...] = (0, 1, 2), tested_on: str = "these") -> Measured:
    chance = sum(map(ord, cell.name))
    families = [family(strength, seed, chance) for seed in seeds]
    left_out = leave_out(families, GROUPS)
    return Measured(
        cell=cell,
        seeds=list(seeds),
        points={"image auroc": np.array([point(one, IMAGES)["auroc"] for one in families])},
        without={"image auroc": np.stack([one["auroc"] for one in left_out])},
        tested_on=tested_on,
        apart={},
        costs=[COST] * len(seeds),
        validation=np.full((1, len(seeds)), np.nan),
        facts=[FACT] * len(seeds),
    )


STRENGTH = {"none": 0.6, "mae": 0.6, "moco": 1.8}


def table_of(**more: Any) -> TableSettings:
    whole: dict[str, Any] = {"name": "t", "base": {}, "matrix": {"start": {name: {} for name in STRENGTH}}}
    return TableSettings.model_validate(whole | {"baseline": {"start": "none"}} | more)


def results(table: TableSettings, failed: dict[str, str] | None = None, **strength: float) -> Results:
    cells = cells_of(table)
    found = {
        cell.name: measured(cell, (STRENGTH | strength)[cell.labels["start"]])
        for cell in cells
        if cell.name not in (failed or {})
    }
    return judge(table, cells, found, failed or {}, 3)


def test_a_difference_of_one_seed_is_that_over_test_groups() -> None:
    cells = cells_of(table_of())
    a, b = measured(cells[2], 1.8, (1,)), measured(cells[0], 0.6, (1,))
    chances = [sum(map(ord, cell.name)) for cell in (cells[2], cells[0])]
    pair = family(1.8, 1, chances[0]), family(0.6, 1, chances[1])
    wanted = paired_difference(*pair, GROUPS, SPEC)["auroc"]
    found = paired(a, b, "image auroc", 0.95)
    assert {key: found[key] for key in wanted} == pytest.approx(wanted)
    assert 0 < found["p"] < 0.01


def test_only_seeds_of_both_are_paired_and_only_on_the_same_images() -> None:
    cells = cells_of(table_of())
    a, b = measured(cells[2], 1.8, (0, 1, 2)), measured(cells[0], 0.6, (2, 5))
    mine, theirs = a.points["image auroc"][2], b.points["image auroc"][0]
    assert paired(a, b, "image auroc", 0.95)["value"] == pytest.approx(mine - theirs)
    assert paired(a, measured(cells[0], 0.6, (7,)), "image auroc", 0.95)["why"] == "no seed in common"
    other = measured(cells[0], 0.6, tested_on="others")
    assert paired(a, other, "image auroc", 0.95)["why"] == "not tested on the same images"


def test_what_differs_is_marked_and_what_does_not_is_not() -> None:
    found = results(table_of())
    none, mae, moco = found.every
    assert none.change is None
    assert mae.change is not None
    assert moco.change is not None
    assert [mae.change["holm"], moco.change["holm"]] == holm([mae.change["p"], moco.change["p"]])
    assert (none.verdict, mae.verdict, moco.verdict) == ("", "", "better")
    assert (none.winner, mae.winner, moco.winner) == (False, False, True)
    low, high = moco.change["low"], moco.change["high"]
    assert 0 < low < moco.change["value"] < high
    assert moco.entry is not None
    assert moco.entry["sd"] == pytest.approx(np.std(found.measured["moco"].points["image auroc"], ddof=1))


def test_differences_of_a_task_s_own_metric_are_no_percentages() -> None:
    table = table_of(unit="percent", metrics=["task mae", "image auroc"])
    change = {"value": 0.5, "low": 0.25, "high": 0.75, "p": 0.04, "holm": 0.04}
    cell = cells_of(table)[1]
    texts = [_change(Result(cell, metric, change=change), table).text for metric in table.metrics]
    ends = ["+0.500 (+0.250 to +0.750)", "+50.0 (+25.0 to +75.0)"]
    assert texts == [f"{text}, p 0.040, Holm 0.040" for text in ends]


def test_no_winner_among_equals_and_the_worse_is_told() -> None:
    found = results(table_of(baseline={"start": "moco"}), mae=1.8)
    none, mae, moco = found.every
    assert not any(one.winner for one in found.every)
    assert (none.verdict, mae.verdict, moco.verdict) == ("worse", "", "")


def test_holm_is_over_all_rows_of_the_table() -> None:
    matrix = {"start": {name: {} for name in STRENGTH}, "budget": {"few": {}, "many": {}}}
    found = results(table_of(matrix=matrix, columns=["budget"]))
    changes = [one.change for one in found.every if one.change]
    assert len(changes) == 4
    assert [c["holm"] for c in changes] == holm([c["p"] for c in changes])
    assert sum(one.winner for one in found.every) == 2  # one a column


def test_a_failed_cell_is_shown_with_its_reason() -> None:
    table = table_of()
    found = results(table, {"mae": "seed 0: no good images"})
    text = markdown(table.name, [], grids(found), notes(found, "base.yaml"))
    assert "| mae | failed |" in text
    assert "- failed: mae: seed 0: no good images" in text
    assert [one.state for one in found.every] == ["finished", "failed", "finished"]


def test_differences_are_drawn_to_one_scale_and_far_ones_are_cut_with_an_arrow() -> None:
    table = table_of(baseline={"start": "mae"}, matrix={"start": {name: {} for name in (*STRENGTH, "a<b", "byol")}})
    cells = cells_of(table)
    strength = STRENGTH | {"a<b": 0.65, "byol": 0.7, "none": -6.0}
    found = judge(table, cells, {c.name: measured(c, strength[c.labels["start"]]) for c in cells}, {}, 3)
    root = ElementTree.fromstring(forest(found, "image auroc"))
    name = "{http://www.w3.org/2000/svg}"
    drawn = {g.findtext(f"{name}title", "").split(":")[0]: g for g in root.iter(f"{name}g")}
    assert list(drawn) == ["none", "moco", "a<b", "byol"]  # all but the baseline
    scales, zeros = [], []
    for one in found.every:
        if one.change and one.cell.labels["start"] != "none":
            group = drawn[one.cell.labels["start"]]
            line, dot = group.find(f"{name}line"), group.find(f"{name}circle")
            assert line is not None
            assert dot is not None
            assert not group.findall(f"{name}polygon")
            left, x, right = float(line.get("x1", "")), float(dot.get("cx", "")), float(line.get("x2", ""))
            scales.append((right - left) / (one.change["high"] - one.change["low"]))
            zeros.append(x - one.change["value"] * scales[-1])
    assert scales == pytest.approx([scales[0]] * 3, rel=0.02)
    assert zeros == pytest.approx([zeros[0]] * 3, abs=1)
    assert zeros[0] in [pytest.approx(float(line.get("x1", "")), abs=1) for line in root.findall(f"{name}line")]
    far = drawn["none"]
    assert len(far.findall(f"{name}polygon")) == 1
    assert not far.findall(f"{name}circle")
    change = next(one.change for one in found.every if one.cell.labels["start"] == "none")
    assert change
    assert far.findtext(f"{name}text") == f"{change['value']:+.3f}"  # its dot would lie outside
    assert not [one for other in ("moco", "a<b", "byol") for one in drawn[other].findall(f"{name}text")]
    assert forest(results(table_of(baseline={})), "image auroc") == ""


def test_a_forest_of_a_table_in_percent_is_in_percent() -> None:
    shares, percent = (forest(results(table_of(unit=unit)), "image auroc") for unit in ("share", "percent"))
    roots = [ElementTree.fromstring(one) for one in (shares, percent)]
    name = "{http://www.w3.org/2000/svg}"
    scales = [
        [float(one.text or "") for one in root.findall(f"{name}text") if re.fullmatch(r"-?[\d.]+", one.text or "")]
        for root in roots
    ]
    assert [100 * value for value in scales[0]] == pytest.approx(scales[1])
    lines = [[line.attrib for line in root.iter(f"{name}line")] for root in roots]
    assert lines[0] == lines[1]
    told = [g.findtext(f"{name}title", "").split(": ")[1] for g in roots[1].iter(f"{name}g")]
    assert told
    assert all(re.fullmatch(r"[+-]\d+\.\d \([+-]\d+\.\d to [+-]\d+\.\d\)", one) for one in told)


@pytest.mark.parametrize("limit", [0.0004, 0.02, 0.26, 0.46, 0.5, 0.96, 3.0])
def test_a_forest_has_a_scale_on_either_side_of_zero(limit: float) -> None:
    values = _ticks(Frame((-limit, limit), (0, 1), 300, 200, 100, 0, 44, 46, ticks=3))
    assert min(values) < 0 < max(values)
    assert 0 in values
    assert len(values) <= 7


def test_friedman_over_the_sets() -> None:
    matrix = {"set": {name: {} for name in "abcde"}, "start": {name: {} for name in STRENGTH}}
    found = results(table_of(matrix=matrix, sets="set"), mae=1.0)
    values = [one.entry["value"] for one in found.every if one.entry]
    wanted = friedman(list(STRENGTH), np.array(values).reshape(5, 3))
    assert found.ranked["image auroc"] == wanted
    assert wanted.ranks == [3, 2, 1]
    rows = {row["name"]: row for row in found.overall["image auroc"]}
    assert rows["moco"]["p"] == 2 / 2**5
    assert rows["moco"]["holm"] == 4 / 2**5
    caption = grids(found)[2].caption
    assert caption.startswith("image auroc over 5 sets; Friedman's chi-square 10.00, p 0.007")
    root = ElementTree.fromstring(diagram(wanted, "ranks"))
    words = " ".join(root.itertext())
    assert "moco (1.00)" in words
    assert f"critical difference {wanted.distance:.2f} (95%, 5 sets)" in words


def test_published_figures_stand_beside_ours_or_alone() -> None:
    values = [{"at": {"start": "moco"}, "value": 97.9, "error": 0.4}, {"at": {"start": "DifferNet"}, "value": 97.7}]
    block = {"source": "Roth et al., CVPR 2022", "note": "224 px", "metric": "image auroc", "values": values}
    table = table_of(published=[block], unit="percent")
    found = results(table)
    text = markdown(table.name, ["what for"], grids(found), notes(found, "base.yaml"))
    line, changed = [line for line in text.splitlines() if line.startswith("| moco | **")]
    assert "97.9" not in changed
    assert "[97.9 ± 0.4; 1]" in line
    assert "| DifferNet | [97.7; 1] |" in text
    assert "- [1] Roth et al., CVPR 2022 (224 px)" in text
    assert f"{100 * found.every[2].entry['value']:.1f}" in line  # type: ignore[index]
    assert "240 test images, 120 defective, in 120 groups" in text


def test_a_published_row_stands_only_under_the_metric_that_it_gives() -> None:
    matrix = {"start": {name: {} for name in STRENGTH}, "budget": {"few": {}, "many": {}}}
    values = [{"at": {"start": "DifferNet", "budget": "all"}, "value": 97.7}]
    block = {"source": "Rudolph et al., WACV 2021", "metric": "image auroc", "values": values}
    table = table_of(matrix=matrix, columns=["budget"], metrics=["image auroc", "image ap"], published=[block])
    cells = cells_of(table)
    ran = {}
    for cell in cells:
        one = measured(cell, 1.0)
        points, without = (dict.fromkeys(table.metrics, by["image auroc"]) for by in (one.points, one.without))
        ran[cell.name] = replace(one, points=points, without=without)
    found = judge(table, cells, ran, {}, 3)
    shown = {grid.caption: grid for grid in grids(found)}
    assert [row[0].text for row in shown["image auroc"].rows] == [*STRENGTH, "DifferNet"]
    assert shown["image auroc"].heads == ["start", "budget few", "budget many", "budget all"]
    assert [row[0].text for row in shown["image ap"].rows] == [*STRENGTH]
    assert shown["image ap"].heads == ["start", "budget few", "budget many"]


def test_a_row_without_a_metric_is_left_out_of_its_table() -> None:
    matrix = {"start": {name: {} for name in STRENGTH}, "task": {"segmentation": {}, "classification": {}}}
    table = table_of(matrix=matrix, rows=["task"], columns=["start"], metrics=["pixel ap", "image auroc"])
    cells, ran = cells_of(table), {}
    for cell in cells:
        one = measured(cell, 1.0)
        outlined = cell.labels["task"] == "segmentation"
        none = np.full_like(one.points["image auroc"], np.nan), np.full_like(one.without["image auroc"], np.nan)
        points = one.points | {"pixel ap": one.points["image auroc"] if outlined else none[0]}
        without = one.without | {"pixel ap": one.without["image auroc"] if outlined else none[1]}
        ran[cell.name] = replace(one, points=points, without=without)
    failed = next(cell.name for cell in cells if cell.labels["task"] == "segmentation")
    ran.pop(failed)
    shown = {grid.caption: grid for grid in grids(judge(table, cells, ran, {failed: "no masks"}, 3))}
    for caption, rows in (("pixel ap", ["segmentation"]), ("image auroc", ["segmentation", "classification"])):
        assert [row[0].text for row in shown[caption].rows] == rows
        assert "failed" in [text.text for text in shown[caption].rows[0]]


def test_rows_and_columns_of_which_nothing_ran_are_left_out_and_named() -> None:
    matrix = {"start": {name: {} for name in STRENGTH}, "budget": {"few": {}, "many": {}, "all": {}}}
    values = [{"at": {"start": "mae", "budget": "few"}, "value": 50.0}]
    block = {"source": "He et al., CVPR 2022", "metric": "image auroc", "values": values}
    for published in ([], [block]):
        table = table_of(matrix=matrix, columns=["budget"], published=published)
        cells = cells_of(table)
        ran = [cell for cell in cells if cell.labels["start"] != "mae" and cell.labels["budget"] != "many"][:-1]
        found = judge(table, cells, {cell.name: measured(cell, 1.0) for cell in ran}, {}, 3)
        values_grid, changes, _ = grids(found)
        starts = ["none", "mae", "moco"] if published else ["none", "moco"]
        assert [row[0].text for row in values_grid.rows] == starts
        assert [row[0].text for row in changes.rows] == starts
        assert values_grid.heads == ["start", "budget few", "budget all"]
        assert values_grid.rows[-1][2].text == "not run"  # its row and its column have other cells
        text = f"Not finished, and left out above: {'' if published else 'mae; '}many."
        assert text in notes(found, "here")
    assert not [note for note in notes(results(table_of()), "here") if "left out" in note]


def test_long_names_of_rows_have_their_room_and_what_all_share_is_left_out() -> None:
    starts = {"none": {}, "moco": {}, "mae": {}}
    matrix = {
        "set": {"Magnetic Tile": {}},
        "task": {"finding the outlines of all defects": {}, "b": {}},
        "start": starts,
    }
    found = results(table_of(matrix=matrix, rows=["set", "task", "start"]))
    root = ElementTree.fromstring(forest(found, "image auroc"))
    texts = [one for one in root.findall("{http://www.w3.org/2000/svg}text") if one.get("text-anchor") == "end"]
    told = [one.text or "" for one in texts]
    assert {"finding the outlines of all defects, moco", "b, moco"} < set(told)
    assert all(float(one.get("x", "")) >= 5 * len(one.text or "") for one in texts)


def test_a_table_of_columns_alone_has_one_row() -> None:
    found = results(table_of(columns=["start"]))
    values, changes = grids(found)[:2]
    assert [len(grid.rows) for grid in (values, changes)] == [1, 1]
    assert [len(grid.rows[0]) for grid in (values, changes)] == [3, 3]
    assert forest(found, "image auroc").count("<circle") >= 2


def test_a_metric_named_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="a metric is named twice"):
        table_of(metrics=["image auroc", "image auroc"])


def test_where_nothing_varies_the_interval_is_that_of_the_evaluations_or_none() -> None:
    """Every seed has 1.0 exactly: no spread over seeds or groups says how sure that is."""
    cells = cells_of(table_of())
    perfect = replace(measured(cells[0], 99.0), unvaried={"image auroc": {"low": 0.9, "high": 1.0}})
    assert perfect.points["image auroc"].tolist() == [1, 1, 1]
    entry = perfect.entry("image auroc", 0.95)
    assert (entry["value"], entry["low"], entry["high"]) == (1, 0.9, 1.0)
    assert perfect.entry("image auroc", 0.9)["low"] is None
    assert replace(perfect, unvaried={}).entry("image auroc", 0.95)["low"] is None
    name = "image auroc"
    coin = replace(perfect, points={name: np.full(3, 0.5)}, without={name: np.full_like(perfect.without[name], 0.5)})
    change = paired(perfect, coin, name, 0.95)
    assert (change["value"], change["low"], change["p"]) == (0.5, None, None)
    assert change["why"] == "nothing varies: no variance to tell from"
    assert coin.entry(name, 0.95)["low"] is None


def test_no_axis_may_be_named_like_a_column_of_the_results() -> None:
    found = results(table_of())
    assert {*rows_of(found)[0]} - {"start"} == RESERVED


def test_the_csv_holds_every_result() -> None:
    table = table_of(name="t_1")
    found = results(table)
    rows = list(csv.DictReader(io.StringIO(csv_of(found))))
    assert [row["start"] for row in rows] == ["none", "mae", "moco"]
    assert float(rows[2]["mean"]) == found.every[2].entry["value"]  # type: ignore[index]
    assert float(rows[2]["p_holm"]) == found.every[2].change["holm"]  # type: ignore[index]
    assert rows[0]["difference"] == ""
    assert (rows[2]["pretraining"], rows[2]["size"]) == ("2.0", "")
    for grid in grids(found):
        assert {len(row) for row in grid.rows} == {len(grid.heads)}
