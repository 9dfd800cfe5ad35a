"""Farthest-point selection against the greedy choice written out, and what cells cost in cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_defect.nets.anomaly.coreset import PROJECTED, coreset, divided, farthest_points, projected


def clouds(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 4 * rng.normal(size=(10, width))
    return (centres[rng.integers(0, 10, count)] + rng.normal(size=(count, width))).astype(np.float32)


def greedy(points: np.ndarray, count: int, first: int) -> list[int]:
    """Sener and Savarese 2018, algorithm 1, as it stands."""
    chosen = [first]
    while len(chosen) < count:
        distances = np.linalg.norm(points[:, None] - points[chosen][None], axis=2).min(axis=1)
        chosen.append(int(distances.argmax()))
    return sorted(chosen)


def cover(points: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
    """The distance of the worst covered point, and the mean over all."""
    nearest = np.linalg.norm(points[:, None] - points[chosen][None], axis=2).min(axis=1)
    return float(nearest.max()), float(nearest.mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_cell_is_the_greedy_choice(seed: int) -> None:
    points = clouds(200, seed=seed)
    found = farthest_points(points, 25, np.zeros(200, np.int64), seed)
    first = int(np.random.default_rng(seed).integers(0, 200))
    assert found.tolist() == greedy(points, 25, first)


@pytest.mark.parametrize("cells", [1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_all_points_can_be_taken_where_many_are_doubles(cells: int, seed: int) -> None:
    points = np.repeat(100 * clouds(60, width=64, seed=seed), 3, axis=0)  # large: norms round to either side
    assert coreset(points, 180, seed, cells).tolist() == list(range(180))


@pytest.mark.parametrize(("count", "cells"), [(150, 8), (400, 6)])
def test_cells_cover_almost_as_well_and_far_better_than_chance(count: int, cells: int) -> None:
    points = clouds(2500)
    best, mean = cover(points, farthest_points(points, count, np.zeros(2500, np.int64)))
    radius, average = cover(points, farthest_points(points, count, divided(points, cells, 0)))
    chance, _ = cover(points, np.random.default_rng(0).choice(2500, count, replace=False))
    assert radius < 1.2 * best
    assert average < 1.02 * mean
    assert radius < 0.85 * chance


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 60), cells=st.integers(1, 12), seed=st.integers(0, 5))
def test_it_gives_as_many_different_rows_as_asked_for(count: int, cells: int, seed: int) -> None:
    found = coreset(clouds(60, seed=seed), count, seed, cells)
    assert len(found) == len(set(found.tolist())) == count
    assert (np.diff(found) > 0).all()
    assert set(found.tolist()) <= set(range(60))


def test_points_that_are_all_alike_are_taken_all_the_same() -> None:
    assert len(coreset(np.ones((20, 4), np.float32), 20)) == 20


def test_the_same_seed_chooses_the_same() -> None:
    points = clouds(500)
    assert np.array_equal(coreset(points, 90, 3, 5), coreset(points, 90, 3, 5))


def test_projection_keeps_lengths_and_leaves_narrow_points_alone() -> None:
    narrow = clouds(50, PROJECTED)
    assert projected(narrow, 0) is narrow
    wide = np.random.default_rng(0).normal(size=(300, 400)).astype(np.float32)
    seen = projected(wide, 0)
    assert seen.shape == (300, PROJECTED)
    ratio = np.linalg.norm(seen, axis=1) / np.linalg.norm(wide, axis=1)
    assert ratio.mean() == pytest.approx(1, abs=0.05)
