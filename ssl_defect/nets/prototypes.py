"""Prototypes: unit vectors that embeddings are compared with, the last layer of clustering and distilling methods."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Prototypes(nn.Module):
    """Cosines of embeddings with learned vectors, of which only the direction counts.

    That is the prototype layer of SwAV (Caron et al. 2020, section 3.1) and the weight-normalised last layer of DINO
    (Caron et al. 2021, appendix C). The vectors are normalised as they are used, so nothing has to be renormalised
    between steps.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(functional.normalize(torch.randn(count, width), dim=1))

    def forward(self, unit: Tensor, frozen: bool = False) -> Tensor:
        """Cosines (..., count) of unit vectors (..., width), in float32 or better whatever autocast says.

        Args:
            frozen: the vectors get no gradient in this step; an optimizer leaves alone what has none, so freezing
                is a function of the step and needs no memory.
        """
        with torch.autocast(unit.device.type, enabled=False):
            vectors = self.vectors.detach() if frozen else self.vectors
            return functional.linear(unit.to(vectors.dtype), functional.normalize(vectors, dim=1))


def perplexity(shares: Tensor) -> Tensor:
    """How many of K entries are used evenly, exp of the entropy: shares (..., K) that sum to 1 -> (...) in [1, K]."""
    entropy: Tensor = torch.special.entr(shares).sum(dim=-1)
    return entropy.exp()
