"""Partners: another picture of the same group, each as likely as any other, the same for one process and for two."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.train.batches import Batches, Partners


@st.composite
def sets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of all rows, the rows that may be drawn in any order, and a draw in [0, 1) for every row."""
    groups = draw(st.lists(st.integers(-2, 5), min_size=1, max_size=30))
    rows = draw(st.permutations(range(len(groups))))[: draw(st.integers(1, len(groups)))]
    nearly_one = float(np.nextafter(1.0, 0.0))
    chance = st.one_of(st.just(0.0), st.just(nearly_one), st.floats(0, 1, exclude_max=True))
    draws = draw(st.lists(chance, min_size=len(groups), max_size=len(groups)))
    return np.array(groups), np.array(rows), np.array(draws)


@given(sets())
def test_a_partner_is_another_of_the_group_among_the_rows(given: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    groups, rows, draw = given
    for row, partner in zip(rows, Partners(rows, groups)(rows, draw), strict=True):
        others = {other for other in rows if groups[other] == groups[row] and other != row}
        if groups[row] < 0 or not others:
            assert partner == row
        else:
            assert partner in others


@given(sets())
def test_every_other_member_can_be_drawn(given: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """A grid of draws hits each of n others exactly equally often."""
    groups, rows, _ = given
    partners = Partners(rows, groups)
    for row in rows:
        others = {int(other) for other in rows if groups[other] == groups[row] and other != row}
        if groups[row] < 0 or not others:
            continue
        grid = (np.arange(3 * len(others)) + 0.5) / (3 * len(others))
        drawn = [int(partners(np.array([row]), np.full(len(groups), value))[0]) for value in grid]
        assert Counter(drawn) == dict.fromkeys(others, 3)


@given(sets(), st.randoms())
def test_a_picture_s_partner_hangs_on_its_own_draw_alone(
    given: tuple[np.ndarray, np.ndarray, np.ndarray], random: object
) -> None:
    groups, rows, draw = given
    partners = Partners(rows, groups)
    together = dict(zip(rows.tolist(), partners(rows, draw).tolist(), strict=True))
    order = rows.tolist()
    random.shuffle(order)  # type: ignore[attr-defined]
    for row in order[: len(order) // 2 + 1]:
        other = np.where(np.arange(len(groups)) == row, draw, 0.5)
        assert partners(np.array([row]), other)[0] == together[row]


GROUPS = [0, 0, 0, 0, 0, 7, 7, 3, -1, -1, 4, 4, 4, 9, 9, -1]  # 14 is held out: 13 has no copy in train


@pytest.fixture
def copies() -> Store:
    """Image i is filled with i."""
    split = ["val" if row == 14 else "train" for row in range(16)]
    samples = [Sample(f"{i}.png", "", 0, "good", g, s) for i, (g, s) in enumerate(zip(GROUPS, split, strict=True))]
    images = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None, None, None], (16, 8, 8, 1)).copy()
    return Store(Path(), samples, images, None)


def drawn(store: Store, step: int, seed: int = 0, rank: int = 0, processes: int = 1) -> dict[int, int]:
    """Row of the partner by row, as the batch's pixels tell."""
    batch = Batches(store, store.rows("train"), 8, seed, partners=True, rank=rank, processes=processes)(step)
    assert batch["partner"].shape == batch["image"].shape
    assert batch["partner"].dtype == torch.uint8
    return dict(zip(batch["index"].tolist(), batch["partner"][:, 0, 3, 3].tolist(), strict=True))


def test_a_batch_brings_partners_of_its_pictures(copies: Store) -> None:
    for step in range(6):
        for row, partner in drawn(copies, step).items():
            assert GROUPS[partner] == GROUPS[row]
            assert partner != 14
            assert (partner == row) == (row in (7, 8, 9, 13, 15))


def test_partners_are_not_read_unless_asked_for(copies: Store) -> None:
    assert "partner" not in Batches(copies, copies.rows("train"), 8, 0)(0)


def test_every_copy_is_drawn_about_equally_often(copies: Store) -> None:
    """Four others over 1000 steps: 250 each, with a deviation of 14."""
    batches = Batches(copies, np.arange(5), 5, 3, partners=True)
    counts = np.zeros((5, 5), dtype=int)
    for step in range(1000):
        batch = batches(step)
        counts[batch["index"].numpy(), batch["partner"][:, 0, 0, 0].numpy()] += 1
    assert counts.diagonal().tolist() == [0] * 5
    apart = counts[~np.eye(5, dtype=bool)]
    assert 195 < apart.min() <= apart.max() < 305


def test_a_step_s_partners_are_always_the_same_and_differ_between_steps_and_seeds(copies: Store) -> None:
    assert [drawn(copies, step) for step in range(4)] == [drawn(copies, step) for step in range(4)]
    batches = [Batches(copies, np.arange(5), 5, seed, partners=True) for seed in (0, 1)]
    seen = {tuple(b(step)["partner"][:, 0, 0, 0].tolist()) for b in batches for step in range(6)}
    assert len(seen) > 6


def test_two_processes_draw_the_partners_that_one_draws(copies: Store) -> None:
    for step in range(4):
        shares = [drawn(copies, step, rank=rank, processes=2) for rank in range(2)]
        assert [len(share) for share in shares] == [4, 4]
        assert shares[0] | shares[1] == drawn(copies, step)
