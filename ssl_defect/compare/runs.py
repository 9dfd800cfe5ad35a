"""Finished runs, read for a comparison: which were tested on the same images, and which differ only by their seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_defect.artifacts import Record, digest
from ssl_defect.config import load_recipe
from ssl_defect.errors import UserError
from ssl_defect.fingerprints import altered
from ssl_defect.report.numbers import ABSENT
from ssl_defect.report.records import DEFECTIVE, RunRecords, read_run
from ssl_defect.report.verdict import WITHOUT, method_name

KINDS = ("decoder", "architecture", "method")  # options that say which detector of its task a run has


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run; arrays are in the order of its test images."""

    name: str
    folder: Path
    records: RunRecords

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """(n,) 0 good, 1 defective."""
        return np.array([one.label for one in self.records.predictions])

    @cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """(n,) higher is more defective."""
        return np.array([one.score for one in self.records.predictions])

    @cached_property
    def groups(self) -> npt.NDArray[np.int64]:
        """(n,) near-copies share a number."""
        return np.array([one.group for one in self.records.predictions])

    @cached_property
    def called(self) -> npt.NDArray[np.bool_]:
        """(n,) True where the verdict is defective."""
        return np.array([one.verdict == DEFECTIVE for one in self.records.predictions], dtype=np.bool_)

    @property
    def seed(self) -> int:
        """Seed of the recipe."""
        return self.records.recipe.seed

    @property
    def task(self) -> str:
        """What the detector was trained for; `anomaly` where it knows good parts alone."""
        return str(self.records.metrics["protocol"]["task"])

    @property
    def detector(self) -> str:
        """The task, and which of its detectors where there are several."""
        recipe, facts = self.records.recipe, self.records.finetune
        if recipe.anomaly and not recipe.beside:
            return f"{self.task}: {recipe.anomaly.detector}"
        if facts.get("task") == "classical":
            return f"classical: {facts.get('method', '')}"
        names = [str(recipe.finetune.options[key]) for key in KINDS if key in recipe.finetune.options]
        return ": ".join([self.task, *names])

    @property
    def backbone(self) -> str:
        """Name of the encoder; a dash for a classical detector, which has none."""
        return ABSENT if self.records.finetune.get("task") == "classical" else self.records.recipe.model.backbone

    @property
    def method(self) -> str:
        """The pretraining as papers write it."""
        return method_name(self.records.pretrain)

    @property
    def budget(self) -> int | None:
        """Labelled images per class; None where all were used."""
        found = self.records.metrics["protocol"].get("labels_per_class")
        return None if found is None else int(found)

    @property
    def good_images(self) -> int | None:
        """How many good images a detector from them alone was held to; None for all there are, or another task."""
        anomaly, facts = self.records.recipe.anomaly, self.records.finetune
        asked: int | None = anomaly.options.get("images") if anomaly and self.task == "anomaly" else None
        seen = facts["labels"]["good"] + len(facts.get("cleaned", [])) if asked else 0
        return asked if asked and asked <= seen else None

    @cached_property
    def tested_on(self) -> str:
        """Digest of the split and of the test images with their labels and groups."""
        images = [[one.image, one.label, one.group] for one in self.records.predictions]
        return digest([self.records.metrics["protocol"]["split_digest"], images])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe's settings by their dotted names, but for those that name, place, show or seed a run."""
        recipe = self.records.recipe
        whole = recipe.model_dump(mode="json", exclude={"name", "description", "seed", "report", "compute"})
        if recipe.anomaly and not recipe.beside:
            whole.pop("finetune")
        flat = _flat(whole)
        if recipe.pretrain.method == "imagenet":  # which starts from them whatever `start` says
            flat["pretrain.start"] = "imagenet"
        flat["compute.precision"] = recipe.compute.precision
        return {key: value for key, value in flat.items() if key not in {"data.root", "pretrain.seed"}}

    def cost(self) -> dict[str, float | None]:
        """Minutes, MB, milliseconds and MB on disk; None where the records do not tell."""
        told = self.records
        stages = [one for name, one in told.stages.items() if one and name != "prepare"]
        return costs_of(self.folder, told.pretrain, told.finetune, told.metrics, stages)


def costs_of(
    folder: Path, pretrain: dict[str, Any], finetune: dict[str, Any], metrics: dict[str, Any], stages: Sequence[Record]
) -> dict[str, float | None]:
    """Minutes, MB, milliseconds and MB on disk, from a run's records after prepare; None where they do not tell."""
    model = folder / "finetune" / "model.safetensors"
    pretrained = _minutes(pretrain, "training_seconds", "seconds")
    return {
        "pretraining": 0.0 if pretrain["method"] in WITHOUT else pretrained,
        "training": _minutes(finetune, "seconds"),
        "memory": max((one.peak_memory_mb for one in stages), default=0.0) or None,
        "speed": metrics.get("ms_per_image"),
        "size": model.stat().st_size / 1e6 if model.is_file() else None,
    }


@dataclass(frozen=True, eq=False)
class Arm:
    """Runs that differ only by their seed, in its order; often a single one."""

    name: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the lowest seed, which stands for all where one must."""
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs."""
        return [run.seed for run in self.runs]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _minutes(facts: dict[str, Any], *keys: str) -> float | None:
    return next((facts[key] / 60 for key in keys if facts.get(key) is not None), None)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the runs, each named after its folder.

    Raises:
        UserError: fewer than two folders, one given twice, one that is no run, was not evaluated, is damaged, or
            has a recipe that its results were not made with.
    """
    if len(folders) < 2:
        raise UserError(f"a comparison needs two runs or more, got {len(folders)}; give the folders of finished runs")
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise UserError(f"{folder}: the same run twice; give each run once")
        seen.add(folder.resolve())
        if not (folder / "recipe.yaml").is_file():
            raise UserError(f"{folder}: not a run (no recipe.yaml in it); give a folder that `ssl-defect run` wrote")
        if not (folder / "evaluate" / "metrics.json").is_file():
            again = f"ssl-defect run {folder / 'recipe.yaml'} --out {folder} --to evaluate"
            raise UserError(f"{folder}: not evaluated (no evaluate/metrics.json in it); run `{again}` first")
    return [Run(name, folder, _records(folder)) for name, folder in zip(_names(folders), folders, strict=True)]


def _records(folder: Path) -> RunRecords:
    """What the run holds; a run that was begun anew with other settings would show those beside its old results."""
    path = folder / "recipe.yaml"
    found = read_run(load_recipe(path), folder)
    if told := altered(found.recipe, found.stages):
        todo = f"finish it: `ssl-defect run {path} --out {folder} --to evaluate`, or put the recipe back"
        raise UserError(f"{folder}: {told}; {todo}")
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """Names of the folders, with as many of their parents as tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def same_images(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs in sets that were tested on the same images with the same labels and groups, in the order given."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.tested_on, []).append(run)
    return list(found.values())


def arms_of(runs: Sequence[Run]) -> list[Arm]:
    """Runs that differ only by seed put together; those of one seed twice stay apart."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        key = digest(run.settings)
        while any(run.seed == other.seed for other in found.get(key, [])):
            key += "'"
        found.setdefault(key, []).append(run)
    arms = [tuple(sorted(one, key=lambda run: run.seed)) for one in found.values()]
    names = [_arm_name([run.name for run in one]) for one in arms]
    unique = len(set(names)) == len(names)
    return [Arm(name if unique else one[0].name, one) for name, one in zip(names, arms, strict=True)]


def _arm_name(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    shared = "".join(one[0] for one in takewhile(lambda one: len(set(one)) == 1, zip(*names, strict=False)))
    return re.sub(r"[-_. ]*(seed)?[-_. ]*$", "", shared) or names[0]
