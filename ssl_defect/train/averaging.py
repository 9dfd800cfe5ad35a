"""A moving average of the weights in training, which is often better than any of them (Polyak and Juditsky 1992)."""

from __future__ import annotations

import torch
from torch import nn

from ssl_defect.nets.momentum import follow, follower


class Average(nn.Module):
    """Exponential moving average of a module's parameters; its buffers are copied.

    The decay begins low, at `min(decay, (1 + t) / (10 + t))` after t steps, so that the random beginning is soon
    forgotten (the rule of TensorFlow's `ExponentialMovingAverage`).

    Attributes:
        module: the averaged module; it takes no gradient.
        decay: in (0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = follower(module)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: float) -> None:
        """Go along after a step, the first being 0."""
        follow(self.module, module, min(self.decay, (1 + step) / (10 + step)))
        mine, theirs = list(self.module.buffers()), list(module.buffers())
        if mine:
            torch._foreach_copy_(mine, theirs)
