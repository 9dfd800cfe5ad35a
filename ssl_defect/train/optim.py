"""AdamW with the parameter groups that every stage uses, and the learning rate as a pure function of progress."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn
from torch.optim import AdamW

Schedule = Callable[[float], float]


def warmup_cosine(warmup: float, floor: float = 0.0) -> Schedule:
    """Multiplier of the learning rate: linear rise, then half a cosine (Loshchilov and Hutter 2017, eq. 5).

    Args:
        warmup: share of the run, in [0, 1), over which the multiplier rises from 0 to 1.
        floor: value at the end of the run, in [0, 1].

    Returns:
        A function of progress in [0, 1] with values in [0, 1].
    """

    def multiplier(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        rest = (progress - warmup) / (1 - warmup)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))

    return multiplier


def constant(progress: float) -> float:
    """Multiplier 1 at any progress."""
    return 1.0


def make_adamw(modules: list[tuple[nn.Module, float]], weight_decay: float) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019) over several modules, each with its own peak learning rate.

    Biases, norms and other parameters of at most one dimension are not decayed. Frozen parameters are left out, and
    a parameter that two modules share belongs to the first. The peak is kept in each group as `peak`.

    Args:
        modules: pairs of module and peak learning rate.
        weight_decay: decoupled weight decay of all other parameters.
    """
    seen: set[int] = set()
    groups = []
    for module, rate in modules:
        fresh = [p for p in module.parameters() if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in fresh)
        for decay, members in (
            (weight_decay, [p for p in fresh if p.ndim > 1]),
            (0.0, [p for p in fresh if p.ndim <= 1]),
        ):
            if members and rate > 0:
                groups.append({"params": members, "lr": rate, "peak": rate, "weight_decay": decay})
    return AdamW(groups, fused=True)
