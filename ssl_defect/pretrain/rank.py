"""Effective rank: in how many directions features really vary, to notice when they crowd into a few."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-7  # keeps the logarithm finite: Garrido et al. 2023, eq. 1


def effective_rank(features: Tensor) -> float:
    """RankMe of features (N, D): the exponential of the entropy of their singular values, scaled to sum 1.

    Garrido, Balestriero, Najman, LeCun: RankMe, ICML 2023, eq. 1. As in the paper the features are not centred.

    Returns:
        From 1, all features along one line through the origin, to min(N, D), all directions alike. Features that
        are all 0 count as 1.
    """
    values = torch.linalg.svdvals(features.detach().float())
    share = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny) + EPSILON
    return float((-(share * share.log()).sum()).exp())
