"""Momentum encoders: a second network that follows the first as an exponential moving average of its weights."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def follower(module: M) -> M:
    """A copy of `module` that takes no gradient; `follow` moves it."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """Move every parameter in place: average = momentum * average + (1 - momentum) * module (He et al. 2020, eq. 2).

    Buffers, such as the statistics of a BatchNorm, are not averaged: the follower gathers its own.

    Args:
        momentum: in [0, 1].
    """
    mine: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(module.parameters())
    torch._foreach_lerp_(mine, theirs, 1 - momentum)


def rising_momentum(base: float, progress: float) -> float:
    """Momentum that rises from `base` to 1 along half a cosine (Grill et al. 2020, section 3.2)."""
    return 1 - (1 - base) * (math.cos(math.pi * min(progress, 1.0)) + 1) / 2
