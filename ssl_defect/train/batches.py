"""Batches without a DataLoader: uint8 rows gathered from the memory map, each batch a pure function of the step."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_defect.data.store import Store
from ssl_defect.train.seeds import mixed_seed

Rows = npt.NDArray[np.int64]
Extras = Callable[[Rows], dict[str, Tensor]]
"""Rows of a store to what a batch of them holds besides, by name, each tensor with the batch first."""


class Batches:
    """The batch of any step; the next one is gathered meanwhile by one thread.

    Every epoch is shuffled anew by (seed, epoch). Rows that do not fill a last batch sit that epoch out; a set
    smaller than the batch is repeated within it.

    Attributes:
        batch_size: pictures per step over all processes.
        steps_per_epoch: steps in which every row is seen about once.
    """

    def __init__(  # noqa: PLR0913
        self,
        store: Store,
        rows: Rows,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        targets: npt.NDArray[Any] | None = None,
        masks: bool = False,
        partners: bool = False,
        extras: Extras | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            store: the prepared set.
            rows: its rows to draw from.
            batch_size: pictures per step over all processes; a multiple of `processes`.
            seed: decides the order.
            device: where the tensors go.
            targets: one value per row of the store, given as "target".
            masks: give "mask" as well.
            partners: give "partner" as well: another picture of the same group among `rows`, or the picture itself.
            extras: what a batch holds besides, read in the thread that gathers.
            rank: number of this process, which gets every `processes`-th row of the batch.
            processes: how many there are.
        """
        self.store, self.rows, self.batch_size, self.seed = store, np.asarray(rows), batch_size, seed
        self.device, self.targets, self.masks = torch.device(device), targets, masks
        self.rank, self.processes, self.extras = rank, processes, extras
        self._partners = Partners(self.rows, store.groups) if partners else None
        self.steps_per_epoch = max(1, len(self.rows) // batch_size)
        self._labels, self._groups = store.labels, store.groups
        self._order = lru_cache(maxsize=2)(self._epoch_order)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._next: tuple[int, Future[dict[str, Tensor]]] | None = None

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, on the device.

        Returns:
            "image": uint8 (B, C, S, S) in channels-last layout; "index", "group", "label": int64 (B,); and "target"
            (B,), "mask" uint8 (B, 1, S, S), "partner" like "image" where asked for.
        """
        ready = self._next is not None and self._next[0] == step
        batch = self._next[1].result() if ready and self._next else self._read(step)
        self._next = (step + 1, self._thread.submit(self._read, step + 1))
        return {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def rows_of(self, step: int) -> Rows:
        """This process's rows of the store at a step, ascending (the order within a batch means nothing)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        return np.sort(chosen[self.rank :: self.processes])

    def _read(self, step: int) -> dict[str, Tensor]:
        rows = self.rows_of(step)
        batch = self.gather(rows)
        if self._partners is not None:
            draw = np.random.default_rng(mixed_seed(self.seed, step, 1)).random(len(self.store.samples))
            batch["partner"] = torch.from_numpy(self.store.images[self._partners(rows, draw)]).permute(0, 3, 1, 2)
        if self.device.type == "cuda":
            batch = {key: value.pin_memory() for key, value in batch.items()}
        return batch

    def gather(self, rows: Rows) -> dict[str, Tensor]:
        """Read rows of the store into tensors in main memory."""
        batch = {
            "image": torch.from_numpy(self.store.images[rows]).permute(0, 3, 1, 2),
            "index": torch.from_numpy(rows),
            "group": torch.from_numpy(self._groups[rows]),
            "label": torch.from_numpy(self._labels[rows]),
        }
        if self.targets is not None:
            batch["target"] = torch.from_numpy(self.targets[rows])
        if self.masks:
            batch["mask"] = self._read_masks(rows)
        return batch if self.extras is None else batch | self.extras(rows)

    def _read_masks(self, rows: Rows) -> Tensor:
        shape = (len(rows), 1, *self.store.images.shape[1:3])
        if self.store.masks is None:
            return torch.zeros(shape, dtype=torch.uint8)
        return torch.from_numpy(self.store.masks[rows]).view(shape)

    def _epoch_order(self, epoch: int) -> Rows:
        generator = np.random.default_rng(mixed_seed(self.seed, epoch))
        order = generator.permutation(self.rows)
        return np.resize(order, max(len(order), self.batch_size))


class Partners:
    """For each picture another one of its group."""

    def __init__(self, rows: Rows, groups: Rows) -> None:
        """Look up the groups of all rows of a store, (N,); negative means no group; only `rows` are drawn."""
        self._sorted = rows[np.argsort(groups[rows], kind="stable")]
        ordered = groups[self._sorted]
        self._start, end = np.searchsorted(ordered, groups), np.searchsorted(ordered, groups, side="right")
        self._count = np.where(groups < 0, 1, end - self._start)
        self._place = np.zeros(len(groups), dtype=np.int64)
        self._place[self._sorted] = np.arange(len(rows)) - self._start[self._sorted]

    def __call__(self, rows: Rows, draw: npt.NDArray[np.float64]) -> Rows:
        """A partner for each of `rows`, which are among those that may be drawn; a row without others is its own.

        Args:
            draw: (N,) in [0, 1), one for every row of the store.
        """
        others = np.maximum(self._count[rows] - 1, 1)
        step = 1 + (draw[rows] * others).astype(np.int64)
        place = self._start[rows] + (self._place[rows] + step) % self._count[rows]
        return np.where(self._count[rows] > 1, self._sorted[np.minimum(place, len(self._sorted) - 1)], rows)
