"""The nearest of a memory of patches: among all of them, or in the few cells of k-means that lie nearest.

The second is the inverted file of Sivic and Zisserman (2003) and of Jegou et al. (2011, section IV). Queries are
grouped by cell, so that a cell is one matrix product for all that probe it. A distance found so is that to a patch of
the memory, hence never below the true one, and equal to it where every cell is probed. The triangle inequality rules
out next to no cell in features of a hundred dimensions and more, so that fewer probes are not exact.
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 8192  # patches of the memory compared at a time, so that memory stays flat
QUERIES = 4096  # at a time, likewise
GROUPED = 16_384  # queries that are grouped by cell at a time: the more, the larger the products
TOGETHER = 64  # queries of a cell, about, from which on torch multiplies them faster than numpy
SAMPLE = 100_000  # patches that k-means looks at
ROUNDS = 10  # of k-means: more make the cells no better


class Cells(NamedTuple):
    """A memory in the order of its cells.

    Attributes:
        bank: (M, D).
        squares: (M, 1) squared length of each.
        centres: (C, D) of the cells.
        edges: (C + 1,) int64: cell c holds the rows from `edges[c]` to `edges[c + 1]`, which may be none.
    """

    bank: Tensor
    squares: Tensor
    centres: Tensor
    edges: Tensor


def cells_for(count: int) -> int:
    """Cells of a memory of `count`: twice the root of it, where centres and patches cost about alike."""
    return min(count, round(2 * math.sqrt(count)))


def divide(points: NDArray[np.float32], cells: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """k-means: (N,) the cell of each of points (N, D), and the centres (cells, D); a cell may be empty."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    rng = np.random.default_rng(seed)
    some = points if len(points) <= SAMPLE else points[np.sort(rng.choice(len(points), SAMPLE, replace=False))]
    means = KMeans(cells, init="random", n_init=1, max_iter=ROUNDS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than cells
        means.fit(some)
    return means.predict(points).astype(np.int64), means.cluster_centers_.astype(np.float32)


def nearest(queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance (Q,) of queries (Q, D) to the nearest of a bank (M, D), and which that is (Q,)."""
    with torch.autocast(queries.device.type, enabled=False):
        place = torch.cat([_nearest(part, bank) for part in torch.split(queries, QUERIES)])
    return _lengths(queries, bank, place), place


def nearest_in_cells(queries: Tensor, memory: Cells, probes: int) -> tuple[Tensor, Tensor]:
    """As `nearest`, but each query (Q, D) looks at the `probes` cells whose centres are nearest to it."""
    with torch.autocast(queries.device.type, enabled=False):
        place = torch.cat([_probed(part, memory, probes) for part in torch.split(queries, GROUPED)])
    return _lengths(queries, memory.bank, place), place


def neighbours(points: Tensor, memory: Cells, count: int, probes: int) -> Tensor:
    """Rows (B, count), nearest first, of the memory nearest to each of the points (B, D).

    Looked for in the `probes` cells nearest to each, and in more where these hold fewer than `count` patches.
    """
    edges, sizes = memory.edges.tolist(), memory.edges.diff()
    with torch.autocast(points.device.type, enabled=False):
        orders = _to_centres(points, memory).argsort(dim=1)
    found = []
    for point, order in zip(points, orders, strict=True):
        enough = int((sizes[order].cumsum(0) < count).sum()) + 1
        cells = order[: max(enough, probes)].tolist()
        rows = torch.cat([torch.arange(edges[c], edges[c + 1], device=point.device) for c in cells])
        lengths = (memory.bank[rows] - point).norm(dim=1)
        found.append(rows[lengths.topk(count, largest=False).indices])
    return torch.stack(found)


def _nearest(queries: Tensor, bank: Tensor) -> Tensor:
    best = torch.full((len(queries),), torch.inf, device=queries.device)
    place = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for start in range(0, len(bank), BLOCK):
        block = bank[start : start + BLOCK]
        squares = torch.addmm((block * block).sum(dim=1), queries, block.T, alpha=-2)
        found, index = squares.min(dim=1)
        better = found < best
        best, place = torch.where(better, found, best), torch.where(better, index + start, place)
    return place


def _probed(queries: Tensor, memory: Cells, probes: int) -> Tensor:
    probes = min(probes, len(memory.centres))
    pairs = _to_centres(queries, memory).topk(probes, largest=False, sorted=False).indices.flatten()
    order = pairs.argsort()
    few = queries.device.type == "cpu" and len(pairs) < TOGETHER * len(memory.centres)
    squares, place = (_within_few if few else _within)(queries[order // probes], pairs, memory)
    # an empty cell has no row; only a query that is not a number ends there, and its distance is none either
    place = (place + memory.edges[pairs[order]]).clamp_max(len(memory.bank) - 1)
    back = order.argsort().view(-1, probes)
    winner = squares[back].argmin(dim=1, keepdim=True)
    found: Tensor = place[back.gather(1, winner)[:, 0]]
    return found


def _within(grouped: Tensor, pairs: Tensor, memory: Cells) -> tuple[Tensor, Tensor]:
    """Least squared distance (P,), less the query's own square, of queries (P, D) in the order of their cells.

    Args:
        pairs: (P,) the cells, in any order.

    Returns:
        The squares, infinite in an empty cell, and the place within the cell (P,).
    """
    best = torch.full((len(pairs),), torch.inf, device=grouped.device)
    place = torch.zeros_like(pairs)
    edges, ends = memory.edges.tolist(), torch.bincount(pairs, minlength=len(memory.centres)).cumsum(0).tolist()
    start = 0
    for cell, end in enumerate(ends):
        low, high = edges[cell], edges[cell + 1]
        if start < end and low < high:
            squares = torch.addmm(memory.squares[low:high], memory.bank[low:high], grouped[start:end].T, alpha=-2)
            torch.min(squares, dim=0, out=(best[start:end], place[start:end]))
        start = end
    return best, place


def _within_few(grouped: Tensor, pairs: Tensor, memory: Cells) -> tuple[Tensor, Tensor]:
    """As `_within`, by numpy: for a matrix of some ten queries a product of torch takes three times as long."""
    bank, lengths, doubled = memory.bank.numpy(), memory.squares[:, 0].numpy(), grouped.detach().mul(-2).numpy()
    best, place = np.full(len(pairs), np.inf, np.float32), np.zeros(len(pairs), np.int64)
    edges, ends = memory.edges.tolist(), torch.bincount(pairs, minlength=len(memory.centres)).cumsum(0).tolist()
    start = 0
    with _blas().limit(limits=1):  # threads that wait for each other cost more than they bring
        for cell, end in enumerate(ends):
            low, high = edges[cell], edges[cell + 1]
            if start < end and low < high:
                squares = doubled[start:end] @ bank[low:high].T
                squares += lengths[low:high]
                place[start:end] = squares.argmin(axis=1)
                best[start:end] = squares.min(axis=1)
            start = end
    return torch.from_numpy(best), torch.from_numpy(place)


@cache
def _blas() -> Any:
    """The libraries that multiply numpy's matrices; looking for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController().select(user_api="blas")


def _to_centres(queries: Tensor, memory: Cells) -> Tensor:
    """(Q, C) squared distances less the queries' own squares; infinite where a cell is empty."""
    squares = memory.centres.square().sum(dim=1).masked_fill(memory.edges.diff() == 0, torch.inf)
    return torch.addmm(squares, queries, memory.centres.T, alpha=-2)


def _lengths(queries: Tensor, bank: Tensor, place: Tensor) -> Tensor:
    """Of the differences themselves: from squares, small distances would lose their digits."""
    lengths: Tensor = torch.linalg.vector_norm(queries - bank[place], dim=1)
    return lengths
