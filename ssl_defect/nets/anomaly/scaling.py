"""Features at unit scale, measured on good parts: a setting in units of them means the same for every encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ssl_defect.errors import UserError

FLOOR = 0.01  # share of the mean deviation: a channel that hardly moves on good parts is raised no further


class Scaling(nn.Module):
    """Each channel brought to mean 0 and standard deviation 1.

    Args:
        width: number of channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width, ...) -> the same shape, float32."""
        shape = (1, -1) + (1,) * (features.ndim - 2)
        scaled: Tensor = (features.float() - self.mean.view(shape)) / self.std.view(shape)
        return scaled


def measure(scalings: Sequence[Scaling], batches: Iterable[Sequence[Tensor]]) -> None:
    """Set means and deviations to those of all batches.

    Args:
        batches: of each the features (B, width, ...), one for each of the scalings.

    Raises:
        UserError: they are not finite.
    """
    moments = [Moments(len(scaling.mean)) for scaling in scalings]
    for batch in batches:
        for features, found in zip(batch, moments, strict=True):
            found.add(features)
    for scaling, found in zip(scalings, moments, strict=True):
        deviation = require_finite(found.squares / found.count).sqrt()
        floor = FLOOR * float(deviation.mean())
        scaling.mean.copy_(found.mean)
        scaling.std.copy_(deviation.clamp_min(floor) if floor > 0 else torch.ones_like(deviation))


class Moments:
    """Number, mean, and sum of squared deviations from it, of features that come in batches; in double precision.

    Batches are joined as in Chan, Golub and LeVeque 1979: a mean far from 0 costs no digits.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.squares = torch.zeros(width, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Join a batch (B, width, ...)."""
        others = [axis for axis in range(features.ndim) if axis != 1]
        variance, mean = (x.cpu().double() for x in torch.var_mean(features.float(), dim=others, correction=0))
        count = features.numel() // features.shape[1]
        apart, share = mean - self.mean, count / (self.count + count)
        self.squares += count * variance + apart.square() * self.count * share
        self.mean += apart * share
        self.count += count


def require_finite(features: Tensor) -> Tensor:
    """The features themselves.

    Raises:
        UserError: there is a NaN or an infinite one among them.
    """
    if not bool(torch.isfinite(features).all()):
        raise UserError(
            "anomaly: the encoder's features of good images are not finite, its weights are damaged; "
            "run `ssl-defect pretrain` again, or take another pretrain.method"
        )
    return features


def require_pictures(detector: str, count: int, least: int = 2) -> None:
    """Refuse too few good pictures.

    Raises:
        UserError: there are fewer than `least`.
    """
    if count < least:
        raise UserError(
            f"anomaly.detector: {detector} needs {least} good training images or more, got {count}; "
            "add some, or take patchcore"
        )
