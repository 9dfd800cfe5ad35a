"""Pairs of pictures: each with another of its near-copy group, such as another light, or with a golden one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ssl_defect.data.store import Store
from ssl_defect.errors import UserError

Rows = npt.NDArray[np.int64]
LOOKED_AT = 64  # pictures, for the golden one


def partner_rows(store: Store) -> Rows:
    """(N,) of every row: the next row of its group within its split, the first after the last; itself if alone."""
    groups, splits = store.groups, np.array([sample.split for sample in store.samples])
    # a row without a group is a group of its own
    keys = np.where(groups < 0, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
    order = np.lexsort((np.arange(len(keys)), keys, splits))
    here, where = keys[order], splits[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (here[1:] != here[:-1]) | (where[1:] != where[:-1])
    start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    following = np.append(np.arange(1, len(order)), 0)
    ends = np.append(begins[1:], True)
    partners = np.empty(len(order), dtype=np.int64)
    partners[order] = order[np.where(ends, start, following)]
    return partners


def golden_row(store: Store) -> int:
    """The good training picture that is nearest, by absolute difference, to the median of the training pictures.

    Both are taken over at most 64 of them, spread evenly.

    Raises:
        UserError: no training picture is good.
    """
    rows = store.rows("train")
    good = rows[store.labels[rows] == 0]
    if not len(good):
        raise UserError(
            "finetune.options.pair: golden needs a good training picture and there is none; set it to group or none"
        )
    median = np.median(store.images[_spread(rows)], axis=0)
    candidates = _spread(good)
    distances = [np.abs(store.images[row] - median).mean() for row in candidates]
    return int(candidates[int(np.argmin(distances))])


def _spread(rows: Rows) -> Rows:
    places = np.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).round().astype(np.int64)
    chosen: Rows = rows[places]
    return chosen
