"""Detectors of anomalies that learn in steps; the encoder stays as it is."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_defect.nets.anomaly.base import AnomalyHead, Pictures
from ssl_defect.nets.backbones import Encoder


class TrainedHead(AnomalyHead):
    """The interface. `fit` prepares, then the stage takes steps down `loss`.

    The loop calls `loss` with the head in train mode and the encoder in eval mode, its weights without gradients; a
    head that needs no gradient through the encoder computes its maps under `torch.no_grad`.
    """

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """What is to be known before the first step, such as the spread of the features; nothing by default."""

    def loss(self, encoder: Encoder, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Of good pictures.

        Args:
            x: (B, C, S, S) in [0, 1].
            generator: all that is random is drawn from it, or from torch's global one; both are seeded per step.

        Returns:
            "loss", a scalar, and its parts by name.
        """
        raise NotImplementedError
