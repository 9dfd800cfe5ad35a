"""Which labelled image stands in which batch: a pure function of seed and step."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_defect.train.batches import Batches
from ssl_defect.train.seeds import mixed_seed

Rows = NDArray[np.int64]


class BalancedBatches(Batches):
    """Batches in which the classes come equally often; `targets` are the classes of the store's rows.

    Place g of the endless row of images belongs to class `g mod K` of the K classes that have rows. Each class has
    its own shuffled order, shuffled anew whenever it is used up. So 952 good and 32 defective images give batches
    that are half defective, and within a class no image comes twice before all came once.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.targets is not None
        targets = np.asarray(self.targets)[self.rows]
        self.pools: list[Rows] = [self.rows[targets == target] for target in np.unique(targets)]
        self._shuffled = lru_cache(maxsize=2 * len(self.pools))(self._shuffle)

    def rows_of(self, step: int) -> Rows:
        """This process's rows of the store at a step, ascending."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        chosen = np.array([self._at(place) for place in places], dtype=np.int64)
        return np.sort(chosen[self.rank :: self.processes])

    def _at(self, place: int) -> int:
        turn, number = divmod(place, len(self.pools))
        epoch, position = divmod(turn, len(self.pools[number]))
        return int(self._shuffled(number, epoch)[position])

    def _shuffle(self, number: int, epoch: int) -> Rows:
        draw = np.random.default_rng(mixed_seed(self.seed, number, epoch))
        return draw.permutation(self.pools[number])
