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
    """Batches in which the classes come equally often; `strata` (N,) are the classes of the store's rows.

    Place g of the endless row of images belongs to class `g mod K` of the K classes that have rows. Each class has
    its own shuffled order, shuffled anew whenever it is used up. So 952 good and 32 defective images give batches
    that are half defective, and within a class no image comes twice before all came once.

    With `half_good`, every other place belongs to class 0, and the places between to the other classes in turn.
    """

    def __init__(self, *args: Any, strata: Rows, half_good: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        here = np.asarray(strata)[self.rows]
        present = np.unique(here)
        self.pools: list[Rows] = [self.rows[here == stratum] for stratum in present]
        self._cycle = list(range(len(self.pools)))
        if half_good and present[0] == 0 and len(present) > 1:
            self._cycle = [number for other in self._cycle[1:] for number in (0, other)]
        self._shuffled = lru_cache(maxsize=2 * len(self.pools))(self._shuffle)

    def rows_of(self, step: int) -> Rows:
        """This process's rows of the store at a step, ascending."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        chosen = np.array([self._at(place) for place in places], dtype=np.int64)
        # the classes come in turn: unshuffled, every other place is of one class, all that one of two processes sees
        np.random.default_rng(mixed_seed(self.seed, step)).shuffle(chosen)
        return np.sort(chosen[self.rank :: self.processes])

    def _at(self, place: int) -> int:
        cycles, position = divmod(place, len(self._cycle))
        number = self._cycle[position]
        # how often this class had its turn before
        turn = cycles * self._cycle.count(number) + self._cycle[:position].count(number)
        epoch, position = divmod(turn, len(self.pools[number]))
        return int(self._shuffled(number, epoch)[position])

    def _shuffle(self, number: int, epoch: int) -> Rows:
        draw = np.random.default_rng(mixed_seed(self.seed, number, epoch))
        return draw.permutation(self.pools[number])
