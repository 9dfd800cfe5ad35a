"""What decides a stage's result: its settings, its inputs and its code. All of it is known before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from ssl_defect.artifacts import Record, code_version, digest, file_digest
from ssl_defect.config import Recipe, Settings, validate
from ssl_defect.data.sources import SOURCES
from ssl_defect.errors import UserError, nearest
from ssl_defect.evaluate import TASK_METRICS
from ssl_defect.finetune import CLASSICAL, TASKS
from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.pretrain import METHODS

# stage -> (module, the stages whose folders it reads)
STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "prepare": ("ssl_defect.data.prepare", ()),
    "pretrain": ("ssl_defect.pretrain.stage", ("prepare",)),
    "finetune": ("ssl_defect.finetune.stage", ("prepare", "pretrain")),
    "evaluate": ("ssl_defect.evaluate.stage", ("prepare", "pretrain", "finetune")),
    "report": ("ssl_defect.report.stage", ("prepare", "pretrain", "finetune", "evaluate")),
}


ANOMALY = "ssl_defect.anomaly.stage"  # stands in the place of finetune where the recipe has a section `anomaly`


@dataclass(frozen=True)
class Plan:
    """One stage as the recipe wants it now."""

    stage: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    code: str

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits; two stages with the same one have the same result."""
        return digest([self.stage, self.settings, self.inputs, self.code])

    def difference(self, record: Record) -> str:
        """In words, why a finished stage no longer is what the recipe wants; empty where it still is."""
        if record.fingerprint == self.fingerprint:
            return ""
        old, new = record.settings, self.settings
        reasons = [
            f"{key} was {old.get(key)!r}, is {new.get(key)!r}"
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
        reasons += [f"{key} changed" for key, value in self.inputs.items() if record.inputs.get(key) != value]
        if record.code != self.code:
            reasons.append("the code changed")
        return "; ".join(reasons) or "made by another version of ssl-defect"


class Inputs:
    """Digests of raw pictures and of files of weights, each taken once: for all the runs that a command plans."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def pictures(self, recipe: Recipe) -> str:
        """Digest of what the recipe's source lists.

        Raises:
            UserError: the source cannot be read.
        """
        data = recipe.data
        key = digest(["pictures", data.source, data.root, data.options])
        if key not in self._known:
            self._known[key] = str(import_module(STAGES["prepare"][0]).inputs_digest(recipe))
        return self._known[key]

    def file(self, path: Path) -> str:
        """Digest of a file's bytes; empty where it is none."""
        key = str(path.absolute())
        if key not in self._known:
            self._known[key] = file_digest(path) if path.is_file() else ""
        return self._known[key]


def plan(recipe: Recipe, last: str = "report", inputs: Inputs | None = None) -> dict[str, Plan]:
    """The stages up to `last`, in order. Reads the raw pictures once, and runs nothing.

    Args:
        inputs: what earlier plans of the same command have read, and this one need not read again.

    Raises:
        UserError: an option is wrong, or the raw pictures cannot be read.
    """
    chosen, seen = options(recipe), inputs or Inputs()
    plans: dict[str, Plan] = {}
    for name, (_, needs) in STAGES.items():
        above = {needed: plans[needed].fingerprint for needed in needs}
        if name == "prepare":
            above = {"pictures": seen.pictures(recipe)}
        plans[name] = Plan(name, _settings(recipe, name, chosen, seen), above, _code(recipe, name))
        if name == last:
            break
    return plans


def altered(recipe: Recipe, records: Mapping[str, Record | None]) -> str:
    """In words, the first setting that finished stages were not made with; empty where all are as the recipe says.

    Reads no pictures and imports no method. Settings that one of both does not have are passed over: those of another
    version, and options that the recipe leaves to their defaults.
    """
    for name, record in records.items():
        found = _unlike(record.settings, _settings(recipe, name, {}, None)) if record else ""
        if found:
            return f"'{name}' was made with {found}"
    return ""


def _unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    for key in sorted(old.keys() & new.keys()):
        one, other = old[key], new[key]
        inner = isinstance(one, dict) and isinstance(other, dict)
        found = _unlike(one, other) if inner else "" if one == other else f" {one!r}, and the recipe says {other!r}"
        if found:
            return f"{key}.{found}" if inner else f"{key}{found}"
    return ""


def options(recipe: Recipe) -> dict[str, Settings]:
    """The `options` of data, pretrain and finetune, validated by the source, the method and the task.

    Raises:
        UserError: an unknown source, method or task, or a wrong option, with what is accepted.
    """
    chosen = {
        "data": ("source", recipe.data.source, SOURCES, recipe.data.options),
        "pretrain": ("method", recipe.pretrain.method, METHODS, recipe.pretrain.options),
        "finetune": ("task", recipe.finetune.task, TASKS | CLASSICAL, recipe.finetune.options),
    }
    found = {}
    for section, (key, name, table, raw) in chosen.items():
        if name not in table:
            accepted = f"accepted: {', '.join(table)}{nearest(name, table)}"
            raise UserError(f"{recipe.name}: {section}.{key}: '{name}' is unknown; {accepted}")
        module = table[name][0]
        kind = import_module(module).Options if module else Settings
        found[section] = validate(kind, raw, recipe.name, f"{section}.options")
    if recipe.anomaly:
        found["anomaly"] = import_module(ANOMALY).options_of(recipe)
    return found


def _settings(recipe: Recipe, name: str, chosen: dict[str, Settings], seen: Inputs | None) -> dict[str, Any]:
    """The settings that decide what a stage computes: not where the pictures lie, nor on which machine.

    Without `chosen` options are as the recipe has them, without `seen` no file is read.
    """
    whole = recipe.model_dump(mode="json")
    if name == "report":
        return whole
    if name == "prepare":
        return {**whole["data"], "root": None} | _options_of("data", chosen)
    section = {**whole[name], "seed": recipe.seed, "precision": recipe.compute.precision}
    if name == "pretrain":
        if not METHODS[recipe.pretrain.method][0]:  # nothing is trained: only where the weights come from counts
            section = {"method": recipe.pretrain.method, "start": recipe.pretrain.start}
        section |= {"seed": recipe.pretrain_seed, "model": whole["model"]}
        section |= {"start_file": _start_file(recipe, seen)} if seen else {}
    if name == "finetune" and recipe.anomaly:
        section = {**whole["anomaly"], "seed": recipe.seed, "backbone": recipe.model.backbone}
        return section | _options_of("anomaly", chosen)
    if name == "finetune" and seen:
        section["teacher_file"] = _teacher_file(recipe, seen)
    return section | _options_of(name, chosen)


def _options_of(section: str, chosen: dict[str, Settings]) -> dict[str, Any]:
    """The options of a section with every default, where they are chosen."""
    return {"options": chosen[section].model_dump(mode="json")} if section in chosen else {}


def _start_file(recipe: Recipe, seen: Inputs) -> str:
    """Digest of the file that pretraining starts from; empty where it is none."""
    start = recipe.pretrain.start
    return "" if start in {"random", "imagenet"} else seen.file(Path(start).expanduser())


def _teacher_file(recipe: Recipe, seen: Inputs) -> str:
    """Digest of the detector that is distilled; empty where there is none, or it is missing."""
    if not recipe.finetune.teacher:
        return ""
    from ssl_defect.finetune.distillation import teacher_file  # heavy, and rarely needed

    return seen.file(teacher_file(recipe.finetune.teacher))


def _code(recipe: Recipe, name: str) -> str:
    chosen = {
        "prepare": SOURCES[recipe.data.source][0],
        "pretrain": METHODS[recipe.pretrain.method][0],
        "finetune": (TASKS | CLASSICAL)[recipe.finetune.task][0],
    }
    chosen["evaluate"] = TASK_METRICS.get(recipe.finetune.task, "")  # imported by name as well
    if recipe.anomaly:
        chosen["finetune"] = chosen["evaluate"] = DETECTORS[recipe.anomaly.detector][0]
    own = ANOMALY if recipe.anomaly and name == "finetune" else ""
    version = code_version(*filter(None, (STAGES[name][0], chosen.get(name), own)))
    if name == "report":  # its templates and styles are code as well
        version = digest([version, import_module(STAGES[name][0]).template_digest()])
    return version
