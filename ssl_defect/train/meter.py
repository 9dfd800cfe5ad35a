"""Scalars and time of one interval of training."""

from __future__ import annotations

import time

import torch
from lightning_fabric import Fabric
from torch import Tensor


class Meter:
    """Collects what forward returns; scalars stay on the device until the interval ends, so that no step waits.

    Attributes:
        images: pictures seen so far, over all processes.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.images = 0
        self.rows: list[dict[str, Tensor]] = []

    def add(self, logs: dict[str, Tensor], images: int) -> None:
        """Take the scalars of one step."""
        self.rows.append(logs)
        self.images += images

    def means(self, fabric: Fabric) -> tuple[dict[str, float], dict[str, float]]:
        """Mean of every scalar over the interval, and its value in the last step, both over all processes."""
        names = list(self.rows[0])
        self.table = torch.stack([torch.stack([row[name].float() for name in names]) for row in self.rows])
        both = fabric.all_reduce(torch.stack([self.table.mean(dim=0), self.table[-1]]), reduce_op="mean")
        means, last = both.tolist()
        return dict(zip(names, means, strict=True)), dict(zip(names, last, strict=True))

    def seconds(self) -> float:
        """Seconds since the interval began."""
        return max(time.monotonic() - self.started, 1e-9)

    def first_bad(self) -> int | None:
        """Number within the interval of the first step with a scalar that is not finite; after `means`."""
        bad = (~torch.isfinite(self.table).all(dim=1)).nonzero()
        return int(bad[0]) if len(bad) else None
