"""Defects among the good: images that the others do not explain are left out of the fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Distances = NDArray[np.float64]


def suspects(
    rows: Rows, groups: NDArray[np.int64], share: float, judge: Callable[[Rows, Rows], Distances], seed: int
) -> Rows:
    """The `share` of `rows` that are farthest from what the others hold, ascending.

    Two halves judge each other: a detector that has seen a defect finds it near. Near-copies stay in one half, since
    the copy of a defect would vouch for it. Distances are divided by their half's median, as two detectors differ.

    Args:
        rows: (n,) of the store.
        groups: near-copy group of every row of the store; negative is none.
        judge: fits on the first rows, gives the distances of the second.
    """
    count = round(share * len(rows))
    if not count or len(rows) < 2:
        return rows[:0]
    half = halves(groups[rows], seed)
    distance = np.zeros(len(rows))
    for side in (False, True):
        found = judge(rows[half != side], rows[half == side])
        distance[half == side] = found / max(float(np.median(found)), np.finfo(np.float64).tiny)
    return np.sort(rows[np.argsort(-distance, kind="stable")[:count]])


def halves(groups: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """(n,) which half, groups kept together, both as equal as the groups allow and none empty."""
    keys = np.where(groups < 0, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
    names, inverse, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    if len(names) == 1:  # all copies of one part: nothing else to judge by
        every_other: NDArray[np.bool_] = np.arange(len(groups)) % 2 == 1
        return every_other
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    totals, side = [0, 0], np.zeros(len(names), dtype=np.bool_)
    for name in order:
        lighter = int(totals[1] < totals[0])
        side[name] = bool(lighter)
        totals[lighter] += int(sizes[name])
    half: NDArray[np.bool_] = side[inverse]
    return half
