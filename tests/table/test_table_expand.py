"""Matrices expanded: every combination once, less what is excluded, with what is included; and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ssl_defect.errors import UserError
from ssl_defect.table.command import Request, make
from ssl_defect.table.expand import baseline_of, cells_of, runs_of
from ssl_defect.table.protocol import digest_of, notes
from ssl_defect.table.results import judge
from ssl_defect.table.settings import TableSettings, load_table

BASE = {
    "name": "base",
    "data": {"source": "synthetic", "root": "{place}/parts"},
    "pretrain": {"method": "none"},
    "finetune": {"steps": 5},
}
STARTS = {"none": {"pretrain.method": "none"}, "simclr": {"pretrain.method": "simclr", "pretrain.epochs": 3}}


def table_of(**more: Any) -> TableSettings:
    whole = {"name": "t", "base": BASE, "matrix": {"start": STARTS, "finetune.labels_per_class": [1, 5, None]}}
    return TableSettings.model_validate(whole | more)


def runs(**more: Any) -> list[Any]:
    table = table_of(**more)
    return runs_of(table, cells_of(table), Path("t.yaml"), {})


names = st.text("abcxyz012", min_size=1, max_size=4)
axes = st.dictionaries(names, st.lists(names, min_size=1, max_size=4, unique=True), min_size=1, max_size=3)


@given(axes, st.data())
def test_every_combination_is_there_once_less_the_excluded(matrix: dict[str, list[str]], data: st.DataObject) -> None:
    groups = {axis: {value: {f"data.options.{axis}": value} for value in values} for axis, values in matrix.items()}
    some = list(matrix)[: data.draw(st.integers(1, len(matrix)))]
    out = {axis: data.draw(st.sampled_from(matrix[axis])) for axis in some}
    whole = set(itertools.product(*matrix.values()))
    gone = {
        combo
        for combo in whole
        if all(dict(zip(matrix, combo, strict=True))[axis] == value for axis, value in out.items())
    }
    found = cells_of(TableSettings(name="t", base=BASE, matrix=groups))
    assert len(found) == len(whole)
    assert {tuple(cell.labels.values()) for cell in found} == whole
    assert len({cell.name for cell in found}) == len(whole)
    table = TableSettings(name="t", base=BASE, matrix=groups, exclude=[out])
    if gone == whole:
        with pytest.raises(UserError, match="no cell of the matrix is left"):
            cells_of(table)
    else:
        assert [tuple(cell.labels.values()) for cell in cells_of(table)] == [
            tuple(cell.labels.values()) for cell in found if tuple(cell.labels.values()) not in gone
        ]


def test_settings_reach_the_runs_seed_by_seed() -> None:
    found = runs(seeds=[4, 2], settings={"data.image_size": 32}, roots={"place": "/pictures"})
    assert [run.name for run in found][:3] == ["none-1-seed2", "none-5-seed2", "none-all-seed2"]
    assert [run.seed for run in found] == [2] * 6 + [4] * 6
    simclr = next(run.recipe for run in found if run.name == "simclr-5-seed4")
    assert (simclr.pretrain.method, simclr.pretrain.epochs, simclr.finetune.labels_per_class) == ("simclr", 3, 5)
    assert (simclr.seed, simclr.pretrain_seed, simclr.data.image_size) == (4, 0, 32)
    assert simclr.data.root == "/pictures/parts"
    assert not simclr.evaluate.embeddings
    assert next(run.recipe for run in found if run.name == "none-all-seed2").finetune.labels_per_class is None
    assert BASE["pretrain"] == {"method": "none"}


def test_seeds_share_a_pretraining_unless_the_recipe_says_otherwise() -> None:
    assert {run.recipe.pretrain_seed for run in runs(pretrain_seed=7)} == {7}
    assert [run.recipe.pretrain_seed for run in runs(pretrain_seed="run", seeds=2)] == [0] * 6 + [1] * 6
    own = BASE | {"pretrain": {"method": "none", "seed": 3}}
    assert {run.recipe.pretrain_seed for run in runs(base=own)} == {3}


def test_a_detector_of_good_images_takes_the_place_of_the_task() -> None:
    detectors = {"classes": {}, "patchcore": {"anomaly": {"detector": "patchcore"}}}
    first, other = runs(matrix={"detector": detectors}, seeds=1)
    assert first.recipe.anomaly is None
    assert other.recipe.anomaly is not None
    assert not other.recipe.beside


def test_what_is_included_adds_values() -> None:
    more = [{"start": "mae", "finetune.labels_per_class": [1, None], "settings": {"pretrain.method": "mae"}}]
    table = table_of(include=more, exclude=[{"start": "simclr", "finetune.labels_per_class": [1, 5]}])
    cells = cells_of(table)
    assert [cell.name for cell in cells] == ["none-1", "none-5", "none-all", "simclr-all", "mae-1", "mae-all"]
    found = runs_of(table, cells, Path("t.yaml"), {})
    recipe = next(run.recipe for run in found if run.name == "mae-1-seed0")
    assert (recipe.pretrain.method, recipe.finetune.labels_per_class) == ("mae", 1)


def test_names_that_yaml_reads_as_truth_are_found_again() -> None:
    matrix = {"plain": {True: {}, False: {}}}
    table = TableSettings.model_validate({"name": "t", "base": BASE, "matrix": matrix, "baseline": {"plain": False}})
    assert [cell.labels["plain"] for cell in cells_of(table)] == ["true", "false"]


def test_the_baseline_differs_in_its_axes_alone() -> None:
    table = table_of(baseline={"start": "none"})
    cells = cells_of(table)
    pairs = {cell.name: base.name if (base := baseline_of(cell, cells, table)) else None for cell in cells}
    assert pairs == {
        "none-1": None,
        "none-5": None,
        "none-all": None,
        "simclr-1": "none-1",
        "simclr-5": "none-5",
        "simclr-all": "none-all",
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "empty matrix": ({"matrix": {}}, "matrix: the matrix is empty; give it a setting and its values"),
    "empty axis": ({"matrix": {"seed": []}}, "'seed' needs a list of values"),
    "unknown setting": (
        {"matrix": {"pretrain.metod": ["none"]}},
        "pretrain.metod: unknown key; .* did you mean 'method'",
    ),
    "unknown word": ({"matrix": {"initialisation": ["none"]}}, "matrix.initialisation: no setting of a recipe"),
    "unknown method": ({"matrix": {"pretrain.method": ["simcrl"]}}, "'simcrl' is unknown; .*did you mean 'simclr'"),
    "unknown key": ({"baselin": {}}, "baselin: unknown key; .* did you mean 'baseline'"),
    "unknown base axis": ({"baseline": {"strat": "none"}}, "baseline: 'strat' is no axis .*did you mean 'start'"),
    "unknown base": ({"baseline": {"start": "imagenet"}}, "baseline.start: 'imagenet' is not among .* none, simclr"),
    "excluded base": (
        {"baseline": {"start": "none"}, "exclude": [{"start": "none"}]},
        "baseline: no cell can be compared with {start: none}",
    ),
    "unknown exclude": ({"exclude": [{"start": "mea"}]}, "exclude.0.start: 'mea' is none of its values"),
    "twice": ({"matrix": {"data.image_size": [32, "32"]}}, "two values are named '32'"),
    "clash": ({"matrix": {"start": {"a b": {}, "a_b": {}}}}, "the names of a b and a_b clash"),
    "included twice": ({"include": [{"start": "none", "finetune.labels_per_class": 1}]}, "clash .'none-1'"),
    "nameless": ({"matrix": {"start": {"ü": {}}}}, "a name needs letters or digits"),
    "no settings": ({"matrix": {"start": {"none": "simclr"}}}, "'start.none' must be settings"),
    "mapping in a list": ({"matrix": {"anomaly": [{"detector": "knn"}]}}, "has no name; write the axis as names"),
    "set twice": ({"matrix": {"start": STARTS, "pretrain.method": ["mae"]}}, "both set 'pretrain.method'"),
    "through a value": ({"settings": {"name.first": 1}}, "goes through 'name', which is a value"),
    "metric": ({"metrics": ["image aurok"]}, "'image aurok' is unknown; .* did you mean 'image auroc'"),
    "seeds": ({"seeds": [1, 1]}, "seeds must differ"),
    "no seed": ({"seeds": 0}, "give at least one seed"),
    "rows and columns": ({"rows": ["start"], "columns": ["start"]}, "among the rows and among the columns"),
    "mean of one": ({"average": {"finetune.labels_per_class": [1]}}, "average: .* needs two or more different values"),
    "mean of the same": ({"average": {"start": ["none", "none"]}}, "average: .* needs two or more different values"),
    "mean of the unknown": ({"average": {"start": ["none", "simcrl"]}}, "average.start: 'simcrl' is .*mean 'simclr'"),
    "mean over no axis": ({"average": {"labels": [1, 2]}}, "average: 'labels' is no axis of the matrix"),
    "mean over the baseline": (
        {"average": {"start": ["none", "simclr"]}, "baseline": {"start": "none"}},
        "average: 'start' is an axis of the baseline",
    ),
    "mean of what is left out": (
        {
            "average": {"start": ["none", "simclr"]},
            "include": [{"start": "mae", "settings": {"pretrain.method": "mae"}}],
            "exclude": [
                {"start": "simclr", "finetune.labels_per_class": 1},
                {"start": "none", "finetune.labels_per_class": None},
            ],
        },
        "average: no row has all of mean of none, simclr",
    ),
    "settings that are none": (
        {"include": [{"start": "byol", "settings": "pretrain.method=byol"}]},
        "include.0.settings: must be settings, such as",
    ),
    "axis like a result": (
        {"matrix": {"pretraining": STARTS}},
        "matrix: 'pretraining' is a column of every table's results; name the axis otherwise",
    ),
    "number for a setting": ({"matrix": {"start": {"none": {1: 2}}}}, "'start.none' must be settings"),
    "evaluate": ({"base": BASE | {"evaluate": 5}}, "evaluate: .*, got 5"),
    "published key": (
        {"published": [{"sourc": "x", "metric": "image auroc", "values": []}]},
        "published.0.sourc: unknown key; accepted: metric, note, source, unit, values; did you mean 'source'",
    ),
    "published": (
        {"published": [{"source": "x", "metric": "pixel ap", "values": [{"at": {"start": "none"}, "value": 1}]}]},
        "published.0.metric: 'pixel ap' is none of the metrics image auroc",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line(case: str, tmp_path: Path) -> None:
    more, wanted = WRONG[case]
    whole = {"name": "t", "base": BASE, "matrix": {"start": STARTS, "finetune.labels_per_class": [1, None]}}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(whole | more, sort_keys=False))
    with pytest.raises(UserError, match=wanted) as found:
        make(Request(tmp_path / "t.yaml", tmp_path / "out"), dry=True)
    assert "\n" not in str(found.value)
    assert "t.yaml" in str(found.value)
    assert not (tmp_path / "out").exists()


def test_overrides_are_for_the_table_or_for_all_runs(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump({"name": "t", "base": BASE, "matrix": {"start": STARTS}}, sort_keys=False))
    table, for_runs = load_table(path, ["seeds=2", "roots.place=/here", "data.image_size=64"])
    assert (table.seeds, table.roots, for_runs) == (2, {"place": "/here"}, {"data.image_size": 64})
    cells = cells_of(table)
    assert {run.recipe.data.image_size for run in runs_of(table, cells, path, for_runs)} == {64}
    moved, _ = load_table(path, ["seeds=2", "roots.place=/here", "data.image_size=64", "data.root=/there"])
    told = " ".join(notes(judge(moved, cells, {}, {}, 2), "b.yaml"))
    assert "base b.yaml with `data.image_size` 64;" in told  # what a table was made with stands under it
    assert "there" not in told
    plain, _ = load_table(path, ["seeds=2", "roots.place=/here"])
    assert digest_of(moved) == digest_of(table) != digest_of(plain)
    with pytest.raises(UserError, match=r"--set pretrain: the matrix varies 'pretrain.epochs'"):
        runs_of(table, cells, path, {"pretrain": {"method": "mae"}})
    with pytest.raises(UserError, match="seeds of a table are set by `seeds`"):
        runs_of(table, cells, path, {"seed": 3})
    with pytest.raises(UserError, match=r"expected section\.key=value"):
        load_table(path, ["seeds"])
    with pytest.raises(UserError, match=r"--set name=u: .* give --out"):
        load_table(path, ["name=u"])
    with pytest.raises(UserError, match="not valid YAML; put it in quotes"):
        load_table(path, ["data.root=2024-13-45"])


@pytest.mark.parametrize(("text", "wanted"), [("a: [", "not valid YAML in line"), ("- a", "a table is a mapping")])
def test_no_table_is_said_so(tmp_path: Path, text: str, wanted: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(UserError, match=wanted):
        load_table(tmp_path / "t.yaml")
    with pytest.raises(UserError, match="cannot read the recipe"):
        load_table(tmp_path / "other.yaml")
