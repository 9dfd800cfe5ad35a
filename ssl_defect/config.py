"""Recipes: YAML files with one section per stage, read and validated; the sections are in `settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from ssl_defect.errors import UserError, nearest
from ssl_defect.settings import (
    AnomalySettings,
    ComputeSettings,
    DataSettings,
    EvaluateSettings,
    FinetuneSettings,
    ModelSettings,
    PretrainSettings,
    Recipe,
    ReportSettings,
    Settings,
)

__all__ = [
    "AnomalySettings",
    "ComputeSettings",
    "DataSettings",
    "EvaluateSettings",
    "FinetuneSettings",
    "ModelSettings",
    "PretrainSettings",
    "Recipe",
    "ReportSettings",
    "Settings",
    "dump_yaml",
    "key_and_value",
    "load_recipe",
    "put",
    "read_yaml",
    "validate",
]

S = TypeVar("S", bound="Settings")
RECIPE = "a recipe is a mapping of sections (name, data, model, pretrain, ...)"


def read_yaml(path: Path, kind: str = RECIPE, examples: str = "experiments/") -> dict[str, Any]:
    """A YAML mapping; `kind` says what it is to be, `examples` where there are some.

    Raises:
        UserError: no such file, or no mapping.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the recipe ({error.strerror}); give the path of a YAML file") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8, a date that there is not
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise UserError(f"{path}: not valid YAML{line}; see {examples} for examples") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: {kind}")
    return raw


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read and validate a recipe; `overrides` are `section.key=value` strings, their values read as YAML.

    Raises:
        UserError: the file is missing, is no YAML mapping, or holds a wrong key or value.
    """
    file = Path(path)
    raw = read_yaml(file)
    for override in overrides or []:
        put(raw, *key_and_value(override), f"--set {override}")
    return validate(Recipe, raw, str(file))


def put(raw: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set the dotted `key` of nested mappings; sections that are not there are made.

    Raises:
        UserError: on the way lies a value that is no section; the line begins with `where`.
    """
    *sections, last = key.split(".")
    target = raw
    for section in sections:
        if target.get(section) is None:
            target[section] = {}
        target = target[section]
        if not isinstance(target, dict):
            raise UserError(f"{where}: '{key}' goes through '{section}', which is a value, not a section")
    target[last] = value


def key_and_value(text: str) -> tuple[str, Any]:
    """`section.key=value` as the key and the value, read as YAML.

    Raises:
        UserError: it has no `=`, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: expected section.key=value, for example pretrain.epochs=50")
    try:
        return key.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there is not
        raise UserError(f"--set {text}: the value is not valid YAML; put it in quotes") from error


def validate(kind: type[S], raw: dict[str, Any], where: str, prefix: str = "") -> S:
    """Build settings of class `kind` from `raw`, or say in one line which key is wrong and what is accepted.

    Args:
        where: the file (or the option) that the error line begins with.
        prefix: dotted path of `raw` within that file, such as `pretrain.options`.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise UserError("; ".join(_lines(kind, error, where, prefix))) from error


def _lines(kind: type[Settings], error: ValidationError, where: str, prefix: str) -> list[str]:
    lines = []
    for item in error.errors()[:3]:
        path = [str(part) for part in item["loc"]]
        key = ".".join([*([prefix] if prefix else []), *path])
        if item["type"] == "extra_forbidden":
            fields = sorted(_section(kind, path[:-1]).model_fields)
            reason = f"unknown key; accepted: {', '.join(fields) or 'none'}{nearest(path[-1], fields)}"
        elif item["type"] == "missing":
            reason = "missing; give it a value"
        else:
            message = item["msg"].removeprefix("Value error, ")
            choice = nearest(str(item["input"]), _choices(item)) if item["type"] == "literal_error" else ""
            got = "" if isinstance(item["input"], dict) else f", got {item['input']!r}"  # a whole section says nothing
            reason = f"{message[0].lower()}{message[1:]}{got}{choice}" if path else message
        lines.append(f"{where}: {key or 'recipe'}: {reason}")
    return lines


def _choices(item: Any) -> list[str]:
    return [part.strip(" '") for part in item["ctx"]["expected"].replace(" or ", ", ").split(",")]


def _section(kind: type[Settings], path: list[str]) -> type[Settings]:
    for part in path:
        if part in kind.model_fields:  # else a place in a list
            kind = _settings_in(kind.model_fields[part].annotation) or kind
    return kind


def _settings_in(annotation: Any) -> type[Settings] | None:
    """The settings that a field holds: as they are, in a list, or optional."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next(filter(None, map(_settings_in, get_args(annotation))), None)


def dump_yaml(recipe: Recipe) -> str:
    """The recipe with every default filled in, as YAML that `load_recipe` reads back to an equal recipe."""
    left_out = {"finetune"} if recipe.anomaly and not recipe.beside else set()
    return yaml.safe_dump(recipe.model_dump(exclude=left_out), sort_keys=False, allow_unicode=True)
