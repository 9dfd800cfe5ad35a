"""The cells of a table and their runs, from its matrix: every combination once, less `exclude`, and `include`."""

from __future__ import annotations

import copy
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_defect.config import Recipe, put, read_yaml, validate
from ssl_defect.errors import UserError, nearest
from ssl_defect.fingerprints import options
from ssl_defect.table.settings import TableSettings

Labels = dict[str, str]  # axis -> value, as it is shown
Groups = dict[str, dict[str, dict[str, Any]]]  # axis -> value -> the settings that it stands for
QUIET = {"embeddings": False, "gradcam": 0}  # of `evaluate`: what a table does not show is not made


@dataclass(frozen=True, eq=False)
class Cell:
    """One combination of the matrix: its values by axis, the name that its folders begin with, and its settings.

    One that is the mean of others has them in `over`, and no runs of its own.
    """

    labels: Labels
    name: str
    settings: dict[str, Any]
    over: tuple[Cell, ...] = ()


@dataclass(frozen=True, eq=False)
class Run:
    """One seed of a cell, on one fold where there are several (from 0); `name` is that of its folder."""

    name: str
    cell: Cell
    seed: int
    recipe: Recipe
    fold: int = 0


def shown(axis: str, value: Any, where: str = "") -> str:
    """How a value of an axis is written: null is all labels, or none.

    Raises:
        UserError: it is a list or a mapping, which has no name.
    """
    if value is None:
        return "all" if axis.endswith("labels_per_class") else "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        raise UserError(f"{where}matrix.{axis}: {value!r} has no name; write the axis as names with their settings")
    return str(value)


def cells_of(table: TableSettings, where: str = "table") -> list[Cell]:
    """The cells in the order of the matrix, its last axis fastest, those of `include` behind.

    Raises:
        UserError: two values or cells of one name, two axes that set the same, an unknown value, or no cell left.
    """
    groups = _groups(table, where)
    cells = [
        _cell(dict(zip(groups, labels, strict=True)), groups, {}, where)
        for labels in itertools.product(*groups.values())
    ]
    for i, entry in enumerate(table.exclude):
        wanted = _wanted(entry, groups, f"{where}: exclude.{i}")
        cells = [cell for cell in cells if not all(cell.labels[axis] in values for axis, values in wanted.items())]
    for i, entry in enumerate(table.include):
        cells += _included(entry, groups, f"{where}: include.{i}")
    if not cells:
        raise UserError(f"{where}: exclude: no cell of the matrix is left; take an entry out")
    names: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in names:
            both = f"{described(names[cell.name].labels)} and {described(cell.labels)}"
            raise UserError(f"{where}: the names of {both} clash ('{cell.name}'); name one of them otherwise")
        names[cell.name] = cell
    return cells


def described(labels: Labels) -> str:
    """`'none, 10'`: the values of a cell."""
    return ", ".join(labels.values())


def baseline_of(cell: Cell, cells: list[Cell], table: TableSettings) -> Cell | None:
    """The cell that `cell` is compared with; None where there is none, or it is the baseline itself."""
    if not table.baseline:
        return None
    wanted = cell.labels | {axis: shown(axis, value) for axis, value in table.baseline.items()}
    return next((one for one in cells if one.labels == wanted and one is not cell), None)


def runs_of(table: TableSettings, cells: list[Cell], path: Path, overrides: dict[str, Any]) -> list[Run]:
    """The runs, seed by seed, so that a table can be had early.

    Raises:
        UserError: a setting is wrong in any of them.
    """
    base = read_yaml(path.parent / table.base) if isinstance(table.base, str) else table.base
    for key in overrides:
        varied = sorted({name for cell in cells for name in cell.settings if _overlap(name, key)})
        if varied or key == "seed":
            what = f"the matrix varies '{varied[0]}'" if varied else "seeds of a table are set by `seeds`"
            raise UserError(f"--set {key}: {what}; change the table's recipe, or choose cells with --only")
    return [
        _run(table, base, cell, (seed, fold), overrides, path)
        for seed in table.seed_list
        for fold in range(table.folds or 1)
        for cell in cells
    ]


def _groups(table: TableSettings, where: str) -> Groups:
    found: Groups = {}
    for axis, values in table.matrix.items():
        if isinstance(values, dict):
            named = [(shown(axis, name, f"{where}: "), dict(group or {})) for name, group in values.items()]
        else:
            _must_be_setting(axis, where)
            named = [(shown(axis, value, f"{where}: "), {axis: value}) for value in values]
        names = [name for name, _ in named]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{where}: matrix.{axis}: two values are named '{twice}'; each needs its own name")
        found[axis] = dict(named)
    _set_apart(found, where)
    if wrong := [(axis, v) for axis, v in table.baseline.items() if shown(axis, v) not in found[axis]]:
        axis, value = wrong[0][0], shown(*wrong[0])
        if not any(value in _many(axis, entry.get(axis)) for entry in table.include):
            accepted = f"accepted: {', '.join(found[axis])}{nearest(value, found[axis])}"
            raise UserError(f"{where}: baseline.{axis}: '{value}' is not among the table's values; {accepted}")
    return found


def _must_be_setting(axis: str, where: str) -> None:
    fields = list(Recipe.model_fields)
    if axis.partition(".")[0] not in fields:
        what = f"a list of values needs a setting such as pretrain.method{nearest(axis, fields)}"
        raise UserError(f"{where}: matrix.{axis}: no setting of a recipe; {what}, or names with their settings")


def _set_apart(groups: Groups, where: str) -> None:
    """Two axes must not set the same: the later would hide the earlier."""
    keys = {axis: {key for group in values.values() for key in group} for axis, values in groups.items()}
    for (one, mine), (other, theirs) in itertools.combinations(keys.items(), 2):
        if both := sorted(a for a in mine for b in theirs if _overlap(a, b)):
            raise UserError(f"{where}: matrix: '{one}' and '{other}' both set '{both[0]}'; let one axis set it")


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _many(axis: str, value: Any) -> list[str]:
    return [shown(axis, one) for one in value] if isinstance(value, list) else [shown(axis, value)]


def _wanted(entry: dict[str, Any], groups: Groups, where: str) -> dict[str, list[str]]:
    wanted = {axis: _many(axis, value) for axis, value in entry.items()}
    for axis, values in wanted.items():
        for value in values:
            if value not in groups[axis]:
                accepted = f"accepted: {', '.join(groups[axis])}{nearest(value, groups[axis])}"
                raise UserError(f"{where}.{axis}: '{value}' is none of its values; {accepted}")
    return wanted


def _included(entry: dict[str, Any], groups: Groups, where: str) -> list[Cell]:
    given = {axis: value for axis, value in entry.items() if axis != "settings"}
    settings = entry.get("settings") or {}
    if not isinstance(settings, dict):
        raise UserError(f"{where}.settings: must be settings, such as {{pretrain.method: none}}, got {settings!r}")
    if not settings:
        _wanted(given, groups, where)
    choices = [_many(axis, given[axis]) if axis in given else list(groups[axis]) for axis in groups]
    return [
        _cell(dict(zip(groups, labels, strict=True)), groups, settings, where) for labels in itertools.product(*choices)
    ]


def _cell(labels: Labels, groups: Groups, more: dict[str, Any], where: str) -> Cell:
    settings: dict[str, Any] = {}
    for axis, label in labels.items():
        settings |= groups[axis].get(label, {})
    parts = [re.sub(r"[^A-Za-z0-9_.]+", "_", label).strip("_.") for label in labels.values()]
    if not all(parts):
        raise UserError(
            f"{where}: {described(labels)}: a name needs letters or digits, since folders are named after it"
        )
    return Cell(labels, "-".join(parts), settings | more)


def _run(
    table: TableSettings,
    base: dict[str, Any],
    cell: Cell,
    which: tuple[int, int],
    overrides: dict[str, Any],
    path: Path,
) -> Run:
    (seed, fold), where = which, f"{path}: {described(cell.labels)}"
    raw = copy.deepcopy(base)
    if isinstance(raw.get("evaluate") or {}, dict):  # else `validate` refuses it
        raw["evaluate"] = QUIET | (raw.get("evaluate") or {})
    for key, value in (table.settings | cell.settings | overrides).items():
        put(raw, key, copy.deepcopy(value), where)
    pretrain = raw.get("pretrain") if isinstance(raw.get("pretrain"), dict) else {}
    if table.pretrain_seed != "run" and (pretrain or {}).get("seed") is None:
        put(raw, "pretrain.seed", table.pretrain_seed, where)
    if raw.get("anomaly") is not None:  # a cell is one detector: here the one of good images alone
        raw.pop("finetune", None)
    name = f"{cell.name}-seed{seed}"
    if table.folds:
        name = f"{cell.name}-fold{fold + 1}-seed{seed}"
        _divide(raw, table.folds, fold, where)
    raw = _rooted(raw, table.roots)
    recipe = validate(Recipe, raw | {"name": name, "description": table.description, "seed": seed}, where)
    try:
        options(recipe)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Run(name, cell, seed, recipe, fold)


def _divide(raw: dict[str, Any], folds: int, fold: int, where: str) -> None:
    data = raw.get("data")
    if isinstance(data, dict) and data.get("folds"):  # a recipe written by a run says 0
        raise UserError(f"{where}: data.folds: the table divides the pictures by its `folds`; take out one of the two")
    put(raw, "data.folds", folds, where)
    put(raw, "data.fold", fold, where)


def _rooted(value: Any, roots: dict[str, str]) -> Any:
    """The value with every `{name}` of a root replaced, however deep."""
    if isinstance(value, dict):
        return {key: _rooted(inner, roots) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rooted(inner, roots) for inner in value]
    if isinstance(value, str):
        for name, folder in roots.items():
            value = value.replace(f"{{{name}}}", folder)
    return value
