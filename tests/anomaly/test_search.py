"""The nearest of a memory against all distances, and how wrong a few cells alone may be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_defect.nets.anomaly.search import (
    Cells,
    _within,
    _within_few,
    cells_for,
    divide,
    nearest,
    nearest_in_cells,
    neighbours,
)


def points(count: int, seed: int, width: int = 24) -> Tensor:
    """As features are: many directions, few of them wide, in clumps."""
    draw = torch.Generator().manual_seed(seed)
    spread = 3 / torch.arange(1, width + 1) ** 0.5
    centres = 2 * spread * torch.randn(20, width, generator=torch.Generator().manual_seed(99))
    kinds = torch.randint(0, 20, (count,), generator=draw)
    return centres[kinds] + spread * torch.randn(count, width, generator=draw)


def memory(bank: Tensor, cells: int) -> Cells:
    labels, centres = divide(bank.numpy(), cells, 0)
    ordered = bank[torch.from_numpy(np.argsort(labels, kind="stable"))]
    edges = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=cells))])
    squares = ordered.square().sum(dim=1, keepdim=True)
    return Cells(ordered, squares, torch.from_numpy(centres), torch.from_numpy(edges))


@pytest.mark.parametrize("block", [7, 70, 1000])
def test_nearest_against_all_distances(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_defect.nets.anomaly.search.BLOCK", block)
    monkeypatch.setattr("ssl_defect.nets.anomaly.search.QUERIES", 3 * block)
    queries, bank = points(40, 0), points(70, 1)
    expected = torch.cdist(queries, bank).min(dim=1)
    found, place = nearest(queries, bank)
    assert torch.allclose(found, expected.values, atol=1e-5)
    assert torch.equal(place, expected.indices)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 90), cells=st.integers(1, 12), probes=st.integers(1, 12), seed=st.integers(0, 9))
def test_cells_are_never_nearer_than_the_truth_and_right_where_all_are_probed(
    count: int, cells: int, probes: int, seed: int
) -> None:
    store = memory(points(count, seed), min(cells, count))
    queries = points(30, seed + 50)
    exact, _ = nearest(queries, store.bank)
    found, place = nearest_in_cells(queries, store, probes)
    assert (found >= exact - 1e-5).all()
    assert torch.allclose(found, (queries - store.bank[place]).norm(dim=1))
    if probes >= len(store.centres):
        assert torch.allclose(found, exact, atol=1e-5)


def test_few_cells_of_many_are_wrong_by_little_and_more_probes_by_less() -> None:
    bank, queries = points(6000, 1), points(2000, 2)
    store = memory(bank, cells_for(len(bank)))
    exact, _ = nearest(queries, store.bank)
    errors = [nearest_in_cells(queries, store, probes)[0] / exact - 1 for probes in (1, 4, 16)]
    assert len(store.centres) == 155
    assert errors[1].mean() < 0.03
    assert errors[2].mean() < 0.003
    assert (errors[2] < 1e-5).float().mean() > 0.95
    assert errors[0].mean() > 2 * errors[1].mean()  # it does look at the probed cells alone


def test_what_is_in_the_memory_is_found_at_distance_0() -> None:
    store = memory(points(500, 3), 20)
    found, _ = nearest_in_cells(store.bank + 0.0, store, 3)
    assert found.max() == 0
    found, place = nearest(store.bank + 100, store.bank + 100)  # far from the origin squares lose their digits
    assert found.max() < 0.05
    assert (place == torch.arange(500)).float().mean() > 0.99


def test_a_search_does_not_depend_on_the_other_queries() -> None:
    store, queries = memory(points(500, 4), 20), points(64, 5)
    found, place = nearest_in_cells(queries, store, 4)
    for start in (0, 13, 63):
        alone, row = nearest_in_cells(queries[start : start + 1], store, 4)
        assert row.item() == place[start].item()
        assert alone.item() == pytest.approx(found[start].item(), rel=1e-6)


def test_cells_of_patches_that_are_all_alike_are_empty_and_never_probed_first() -> None:
    store = memory(torch.ones(30, 5), 6)
    assert (store.edges.diff() == 0).any()
    found, place = nearest_in_cells(torch.zeros(4, 5), store, 1)
    assert torch.allclose(found, torch.full((4,), 5**0.5))
    assert place.max() < 30


def test_what_is_no_number_stays_none() -> None:
    store = memory(points(100, 6), 10)
    queries = points(3, 7)
    queries[1] = torch.nan
    for found in (nearest(queries, store.bank)[0], nearest_in_cells(queries, store, 2)[0]):
        assert torch.isnan(found).tolist() == [False, True, False]


def test_neighbours_in_all_cells_are_those_of_all_distances_and_there_are_always_enough() -> None:
    store, asked = memory(points(300, 8), 12), points(5, 9)
    expected = torch.cdist(asked, store.bank).topk(7, largest=False).indices
    assert torch.equal(neighbours(asked, store, 7, 12), expected)
    few = neighbours(asked, store, 250, 1)
    assert few.shape == (5, 250)
    assert all(len(set(row.tolist())) == 250 for row in few)


def test_low_precision_outside_does_not_reach_the_search() -> None:
    store, queries = memory(points(200, 10), 8), points(20, 11)
    expected = nearest(queries, store.bank)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest(queries, store.bank)[0], expected)
        assert torch.allclose(nearest_in_cells(queries, store, 8)[0], expected, atol=1e-5)


def test_few_and_many_queries_find_the_same() -> None:
    store, queries = memory(points(500, 12), 20), points(60, 13)
    pairs = torch.randint(0, 20, (60,), generator=torch.Generator().manual_seed(0)).sort().values
    few, many = _within_few(queries, pairs, store), _within(queries, pairs, store)
    torch.testing.assert_close(few[0], many[0], rtol=1e-4, atol=1e-3)
    assert torch.equal(few[1], many[1])
    assert few[0].isfinite().any()
