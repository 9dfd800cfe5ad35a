"""Batches: a pure function of the step, every row once per epoch, shared out over processes."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_defect.data.store import Store
from ssl_defect.train.batches import Batches
from ssl_defect.train.seeds import mixed_seed


def test_the_batch_belongs_to_its_rows(store: Store) -> None:
    targets = np.arange(60) * 10
    batch = Batches(store, store.rows("train"), 16, 0, targets=targets, masks=True)(0)
    index = batch["index"]
    assert batch["image"].shape == (16, 1, 8, 8)
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(batch["image"][:, 0, 0, 0].long(), index)
    assert torch.equal(batch["label"], index % 2)
    assert torch.equal(batch["group"], index // 2)
    assert torch.equal(batch["target"], index * 10)
    assert batch["mask"].shape == (16, 1, 8, 8)
    assert torch.equal(batch["mask"][:, 0, 0, 0].long(), index % 2)


def test_an_epoch_sees_every_row_once_and_the_next_in_another_order(store: Store) -> None:
    batches = Batches(store, store.rows("train"), 10, 0)
    assert batches.steps_per_epoch == 5
    epochs = [[batches.rows_of(e * 5 + i).tolist() for i in range(5)] for e in range(2)]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == list(range(50))
    assert epochs[0] != epochs[1]


def test_a_batch_does_not_depend_on_what_was_asked_before(store: Store) -> None:
    one, two = (Batches(store, store.rows("train"), 7, seed=3) for _ in range(2))
    in_order = [one(step)["index"].tolist() for step in range(12)]
    assert [two(step)["index"].tolist() for step in (11, 4, 5, 0)] == [in_order[i] for i in (11, 4, 5, 0)]
    other = Batches(store, store.rows("train"), 7, seed=4)
    assert [other(step)["index"].tolist() for step in range(12)] != in_order


def test_rows_that_fill_no_batch_sit_an_epoch_out(store: Store) -> None:
    batches = Batches(store, store.rows("train"), 16, 0)
    assert batches.steps_per_epoch == 3
    seen = {tuple(batches.rows_of(step)) for step in range(3)}
    assert len({row for rows in seen for row in rows}) == 48


def test_a_set_smaller_than_the_batch_is_repeated_within_it(store: Store) -> None:
    batch = Batches(store, np.array([3, 8, 9]), 8, 0)(0)
    counts = torch.bincount(batch["index"], minlength=10)
    assert sorted(counts[[3, 8, 9]].tolist()) == [2, 3, 3]
    assert int(counts.sum()) == 8


def test_processes_share_the_batch_of_one(store: Store) -> None:
    whole = Batches(store, store.rows("train"), 12, 5)
    parts = [Batches(store, store.rows("train"), 12, 5, rank=rank, processes=3) for rank in range(3)]
    for step in range(8):
        shares = [part.rows_of(step).tolist() for part in parts]
        assert [len(share) for share in shares] == [4, 4, 4]
        assert sorted(itertools.chain(*shares)) == whole.rows_of(step).tolist()


def test_a_set_without_masks_gives_empty_ones(store: Store) -> None:
    bare = Store(store.folder, store.samples, store.images, None)
    assert int(Batches(bare, bare.rows("train"), 4, 0, masks=True)(0)["mask"].sum()) == 0


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=4), st.integers(0, 3))
def test_seeds_differ_when_any_part_does(parts: list[int], place: int) -> None:
    changed = list(parts)
    changed[place % len(parts)] += 1
    assert mixed_seed(*parts) == mixed_seed(*parts)
    assert mixed_seed(*parts) != mixed_seed(*changed)
    assert 0 <= mixed_seed(*parts) < 2**63
