"""The JSON schema of a recipe, for editors."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from ssl_defect.config import Recipe
from ssl_defect.data.sources import SOURCES
from ssl_defect.finetune import CLASSICAL, TASKS
from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.pretrain import METHODS


def recipe_schema() -> dict[str, Any]:
    """The recipe's schema, with the options of every source, method and task in the places where they fit."""
    whole = Recipe.model_json_schema()
    places = (
        ("DataSettings", "source", SOURCES),
        ("PretrainSettings", "method", METHODS),
        ("FinetuneSettings", "task", TASKS | CLASSICAL),
        ("AnomalySettings", "detector", DETECTORS),
    )
    for section, key, table in places:
        known = whole["$defs"][section]
        known["properties"][key]["enum"] = list(table)
        known["allOf"] = [
            {
                "if": {"properties": {key: {"const": name}}, "required": [key]},
                "then": {"properties": {"options": _options(import_module(module), name).model_json_schema()}},
            }
            for name, (module, _) in table.items()
            if module
        ]
    return whole


def _options(module: ModuleType, name: str) -> Any:
    """The class of the options: a module holds one, or a table of them by name."""
    return module.OPTIONS[name] if hasattr(module, "OPTIONS") else module.Options
