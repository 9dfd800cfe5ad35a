"""Learning rates over a run: multipliers of the peak as pure functions of progress, and the one that is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ssl_defect.train.optim import Schedule, constant, warmup_cosine

Name = Literal["cosine", "one_cycle", "step", "constant", "plateau"]


def make_schedule(name: Name, warmup: float, milestones: Sequence[float] = (), factor: float = 0.1) -> Schedule:
    """The schedule of that name; all rise over the share `warmup` of the run.

    Args:
        milestones, factor: of `step`, see `steps_down`.
    """
    if name == "cosine":
        return warmup_cosine(warmup)
    if name == "one_cycle":
        return one_cycle(warmup)
    return warmed(steps_down(milestones, factor) if name == "step" else constant, warmup)


def one_cycle(rise: float, start: float = 1 / 25, end: float = 1 / 250_000) -> Schedule:
    """One cycle of the rate, Smith and Topin 2018 (arXiv:1708.07120): up along half a cosine, then down along one.

    Shape and ends are those of torch's `OneCycleLR`; the momentum is not cycled.

    Args:
        rise: share of the run, in [0, 1), until the peak.
        start, end: multipliers at both ends of the run.
    """

    def multiplier(progress: float) -> float:
        if progress < rise:
            return _cosine(start, 1.0, progress / rise)
        return _cosine(1.0, end, min((progress - rise) / (1 - rise), 1.0))

    return multiplier


def steps_down(milestones: Sequence[float], factor: float) -> Schedule:
    """`factor` once for each milestone passed; milestones are shares of the run."""

    def multiplier(progress: float) -> float:
        return float(factor ** sum(progress >= milestone for milestone in milestones))

    return multiplier


def warmed(schedule: Schedule, warmup: float) -> Schedule:
    """`schedule` times a linear rise from 0 to 1 over the share `warmup` of the run, in [0, 1)."""

    def multiplier(progress: float) -> float:
        return schedule(progress) * (progress / warmup if progress < warmup else 1.0)

    return multiplier


@dataclass
class Lowered:
    """A schedule times a factor that changes between the looks."""

    schedule: Schedule
    factor: float = 1.0

    def __call__(self, progress: float) -> float:
        """The multiplier at a progress in [0, 1]."""
        return self.factor * self.schedule(progress)


def on_plateau(state: dict[str, Any], better: bool, patience: int, factor: float) -> None:
    """After a look: lower the rate where `patience` looks in a row brought nothing better, and count anew.

    Args:
        state: a run's own values; "plateau" in it holds "factor", that of the rate, and "looks", those in vain since
            the last better one or the last lowering.
    """
    before = state.get("plateau", {"factor": 1.0, "looks": 0})
    looks = 0 if better else before["looks"] + 1
    lower = looks >= patience
    state["plateau"] = {"factor": before["factor"] * (factor if lower else 1.0), "looks": 0 if lower else looks}


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
