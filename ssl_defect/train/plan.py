"""What the training loop is asked to do, and what it tells between the intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ssl_defect.train.optim import Schedule

Batch = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        steps: optimizer steps in all.
        interval: steps between two yields; the last interval may be shorter.
        schedule: multiplier of each group's peak learning rate, a function of progress.
        clip_norm: gradients are clipped to this global norm.
        seed: with the step it decides everything random.
        identity: digest of the settings; a checkpoint of another identity is refused.
        unit: what an interval is called in messages.
        save_every: least seconds between two checkpoints; they are written at the ends of intervals only.
    """

    steps: int
    interval: int
    schedule: Schedule
    clip_norm: float = 1.0
    seed: int = 0
    identity: str = ""
    unit: str = "interval"
    save_every: float = 20.0


@dataclass
class Interval:
    """Where training stands.

    Attributes:
        step: steps done so far; `steps`: steps in all.
        logs: mean over the interval of every scalar that forward returned. Empty in the opening interval.
        last: the same scalars in the last step of the interval.
        seconds: time spent training since the interval before, without the caller's own.
        images_per_second: over all processes.
        state: the caller's own JSON-able values; saved in the checkpoint after the caller goes on, given back on
            resuming.
    """

    step: int
    steps: int
    logs: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    images_per_second: float = 0.0
    state: dict[str, Any] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
