"""A few patches that stand for all: farthest-point selection, cell by cell.

PatchCore (Roth et al. 2022, arXiv:2106.08265, section 3.2 and algorithm 1) keeps the patches that the greedy choice of
Sener and Savarese (2018, arXiv:1708.00489) takes: always the one that is farthest from all taken so far. That compares
all N patches with each of the M chosen ones. Here k-means divides the patches into cells first, and a choice is
compared with the patches of its own cell alone: N M / cells distances. Which cell chooses next is still decided among
all, by the farthest patch. With one cell it is the greedy choice itself.
"""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Rows = NDArray[np.int64]

PROJECTED = 64  # dimensions in which distances are compared (Johnson and Lindenstrauss), as in the authors' code
CHOICES = 64  # of a cell, about: more cells are faster, fewer are nearer to the greedy choice
SAMPLE = 20_000  # points that k-means looks at


def coreset(points: Points, count: int, seed: int = 0, cells: int = 0) -> Rows:
    """Rows, ascending, of `count` points that cover all.

    Args:
        points: (N, D).
        count: from 1 to N.
        cells: of k-means; 0 for as many as give each about `CHOICES` choices.
    """
    near = projected(points, seed)
    wanted = min(cells or max(1, count // CHOICES), count)
    return farthest_points(near, count, divided(near, wanted, seed), seed)


def projected(points: Points, seed: int) -> Points:
    """The points (N, D) in at most `PROJECTED` random directions, lengths kept on average."""
    width = points.shape[1]
    if width <= PROJECTED:
        return points
    directions = np.random.default_rng(seed).normal(size=(width, PROJECTED)) / np.sqrt(PROJECTED)
    return np.asarray(points @ directions.astype(np.float32))


def divided(points: Points, cells: int, seed: int) -> Rows:
    """(N,) number of each point's cell, from 0 on, none of them empty."""
    if cells == 1:
        return np.zeros(len(points), dtype=np.int64)
    from sklearn.cluster import MiniBatchKMeans

    rng = np.random.default_rng(seed)
    some = points if len(points) <= SAMPLE else points[np.sort(rng.choice(len(points), SAMPLE, replace=False))]
    means = MiniBatchKMeans(cells, n_init=1, random_state=seed, batch_size=4096, max_iter=20).fit(some)
    numbers: Rows = np.unique(means.predict(points), return_inverse=True)[1].astype(np.int64)
    return numbers


def farthest_points(points: Points, count: int, cells: Rows, seed: int = 0) -> Rows:
    """Rows, ascending, of `count` points: in each cell farthest points, from the cell that has the farthest one.

    Args:
        points: (N, D).
        count: from 1 to N; where it is below the number of cells, only some of them are represented.
        cells: (N,) number of each point's cell, from 0 on, none of them empty.
    """
    order = np.argsort(cells, kind="stable")
    gathered = np.ascontiguousarray(points[order])
    norms = np.einsum("nd,nd->n", gathered, gathered)
    edges = np.searchsorted(cells[order], np.arange(int(cells.max()) + 2))
    far = np.full(len(points), np.inf, dtype=np.float32)
    queue: list[tuple[float, int, int]] = []

    def take(place: int, cell: int) -> None:
        low, high = edges[cell], edges[cell + 1]
        squares = norms[low:high] - 2 * (gathered[low:high] @ gathered[place]) + norms[place]
        # rounding takes the distance of a point's double below 0, which stands for taken
        np.minimum(far[low:high], np.maximum(squares, 0), out=far[low:high])
        far[place] = -1  # taken
        best = int(far[low:high].argmax()) + int(low)
        if far[best] >= 0:
            heapq.heappush(queue, (-float(far[best]), best, cell))

    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(low, high)) for low, high in pairwise(edges)][:count]
    for cell, place in enumerate(chosen):
        take(place, cell)
    while len(chosen) < count:
        _, place, cell = heapq.heappop(queue)
        chosen.append(place)
        take(place, cell)
    return np.sort(order[np.array(chosen)])
