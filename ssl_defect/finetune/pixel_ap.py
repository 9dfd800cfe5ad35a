"""Average precision of pixels from a histogram of logits: memory stays flat over any number of images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 4096  # of the logits' histogram
REACH = 16.0  # logits beyond +-16 count as 16: probabilities of 1e-7


def histogram(logits: Tensor, masks: Tensor) -> NDArray[np.int64]:
    """(2, BINS) counts of good and of defective pixels by logit, low to high: memory stays flat over any set.

    Args:
        logits: any shape.
        masks: the same shape, 0 or 1.
    """
    bins = ((logits + REACH) * (BINS / (2 * REACH))).clamp(0, BINS - 1).long()
    counts = torch.bincount((bins + BINS * masks.long()).flatten(), minlength=2 * BINS)
    return np.asarray(counts.reshape(2, BINS).cpu().numpy(), dtype=np.int64)


def average_precision(counts: NDArray[np.int64]) -> float | None:
    """Average precision `sum (R_n - R_(n-1)) P_n` over falling thresholds; None where no pixel is defective.

    Args:
        counts: (2, bins) of `histogram`.
    """
    false, true = np.cumsum(counts[:, ::-1], axis=1)
    if true[-1] == 0:
        return None
    precision = true / np.maximum(true + false, 1)
    return float(np.sum(np.diff(true, prepend=0) * precision) / true[-1])
