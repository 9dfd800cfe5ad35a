"""Optimizers with the parameter groups that every stage uses; AdamW and its schedule, which serve pretraining."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

Schedule = Callable[[float], float]
Name = Literal["adamw", "adam", "sgd", "rmsprop"]


@dataclass(frozen=True)
class Part:
    """Parameters that share a peak learning rate.

    Attributes:
        parameters: those that are frozen are left out of the optimizer.
        rate: peak learning rate; a part with 0 is left out.
        since: progress before which they stand still, see `hold_back`.
    """

    parameters: list[nn.Parameter]
    rate: float
    since: float = 0.0


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

    Args:
        modules: pairs of module and peak learning rate; for who is decayed and left out see `parameter_groups`.
        weight_decay: decoupled weight decay.
    """
    parts = [Part(list(module.parameters()), rate) for module, rate in modules]
    return AdamW(parameter_groups(parts, weight_decay), fused=True)


def make_optimizer(
    name: Name, parts: list[Part], weight_decay: float, momentum: float = 0.9, nesterov: bool = False
) -> Optimizer:
    """An optimizer of torch over parts with their own peak learning rates.

    Args:
        name: of `adamw` the decay is decoupled (Loshchilov and Hutter 2019), for the others it is L2.
        parts: for who is decayed and left out see `parameter_groups`.
        momentum, nesterov: of `sgd` alone; `nesterov` needs a momentum above 0.
    """
    groups = parameter_groups(parts, weight_decay)
    if name == "adamw":
        return AdamW(groups, fused=True)
    if name == "adam":
        return Adam(groups, fused=True)
    if name == "rmsprop":
        return RMSprop(groups)
    return SGD(groups, momentum=momentum, nesterov=nesterov)


def parameter_groups(parts: list[Part], weight_decay: float) -> list[dict[str, Any]]:
    """The groups of an optimizer: two per part, with and without decay.

    Biases, norms and other parameters of at most one dimension are not decayed. Frozen parameters are left out, and
    a parameter that two parts share belongs to the first. The peak is kept in each group as `peak`.
    """
    seen: set[int] = set()
    groups = []
    for part in parts:
        fresh = [p for p in part.parameters if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in fresh)
        shared = {"lr": part.rate, "peak": part.rate, "since": part.since}
        for decay, members in (
            (weight_decay, [p for p in fresh if p.ndim > 1]),
            (0.0, [p for p in fresh if p.ndim <= 1]),
        ):
            if members and part.rate > 0:
                groups.append({"params": members, "weight_decay": decay, **shared})
    return groups


def hold_back(optimizer: Optimizer, progress: float) -> None:
    """Keep the groups whose turn has not come out of this step; call it between setting the rate and the forward pass.

    They get no gradient either: it would cost a way back through the encoder, and shorten the others' when clipped.
    """
    for group in optimizer.param_groups:
        held = progress < group.get("since", 0.0)
        if held:
            group["lr"] = 0.0
        if "since" in group:
            for parameter in group["params"]:
                parameter.requires_grad_(not held)
