"""What each arm of a comparison is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_defect.compare.runs import Arm, Run

BASELINES = ("none", "imagenet")  # the pretraining of the run that others are measured against, where none is named
Bases = dict[Arm, Arm]  # arm -> what it is measured against, itself where it is a baseline; one without is left out


def baselines_of(arms: Sequence[Arm], wanted: Run | None) -> Bases:
    """The baseline of each arm: of several budgets of labels, the one that has as many.

    One arm is the baseline (`baseline_of`). An arm that learns from more or fewer labels, or from good images alone, is
    measured against the one that does so too from the initialisation of the baseline, where there is one: else the
    labels would pass for the pretraining.
    """
    base = baseline_of(arms, wanted)
    like = [arm for arm in arms if _start(arm) == _start(base)]
    found = {arm: next((one for one in (base, *like) if _learns_from(one) == _learns_from(arm)), base) for arm in arms}
    serving = {one for arm, one in found.items() if arm is not one}
    return {arm: one if one in serving else base for arm, one in found.items()}


def baselines_told(arms: Sequence[Arm], told: Mapping[Path, Path | None]) -> Bases:
    """The same where the folder of each run is told with that of its baseline, its own where it is one."""
    holder = {run.folder: arm for arm in arms for run in arm.runs}
    found = {arm: told.get(arm.first.folder) for arm in arms}
    return {arm: holder[folder] for arm, folder in found.items() if folder in holder}


def baseline_of(arms: Sequence[Arm], wanted: Run | None) -> Arm:
    """The arm that others are measured against: `wanted`'s, else the first without pretraining, else the first."""
    for arm in arms:
        if wanted in arm.runs:
            return arm
    for method in BASELINES:
        for arm in arms:
            if arm.first.records.pretrain["method"] == method:
                return arm
    return arms[0]


def _learns_from(arm: Arm) -> tuple[str, int | None]:
    """Labels per class (None: all), or the detector that needs none and its number of good images."""
    one = arm.first
    return (one.detector, one.good_images) if one.task == "anomaly" else ("labels", one.budget)


def _start(arm: Arm) -> dict[str, object]:
    """All settings but those of the detector."""
    kept = arm.first.settings
    return {key: value for key, value in kept.items() if not key.startswith(("finetune.", "anomaly"))}
