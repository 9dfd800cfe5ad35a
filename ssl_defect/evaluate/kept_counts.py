"""The counts of the test maps as a run keeps them: a comparison draws its intervals from these, not from the maps.

A kept map has 8 bits: one that never passes a few hundredths has few levels left there, while its counts are those of
the evaluation itself.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from ssl_defect.errors import UserError
from ssl_defect.evaluate.metrics import Array
from ssl_defect.evaluate.regions import PixelCounts

PIXELS = "pixels.npz"
STEPS = ("called", "tp")  # whole numbers that rise from level to level: their steps are small, and pack well


class Kept(NamedTuple):
    """Counts of the test images `known` (n,), positions in the order of predictions.csv, made at `threshold`."""

    counts: PixelCounts
    known: Array
    threshold: float


def packed(kept: Kept) -> dict[str, Array]:
    """Named arrays, small once they are compressed, from which `read_counts` has the very same counts back."""
    arrays = {name: np.asarray(value) for name, value in vars(kept.counts).items()}
    for name in STEPS:
        arrays[name] = np.diff(arrays[name], prepend=0).astype(np.int32)
    return {"known": kept.known, "threshold": np.array(kept.threshold, np.float64), **arrays}


def read_counts(path: Path) -> Kept | None:
    """What `packed` gave; None where there is no such file.

    Raises:
        UserError: damaged.
    """
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = dict(found.items())
        for name in STEPS:
            arrays[name] = np.cumsum(arrays[name], axis=1, dtype=np.int64).astype(np.float32)
        known, threshold = arrays.pop("known"), float(arrays.pop("threshold"))
        counts = PixelCounts(**arrays)
        if counts.called.shape != (len(known), len(counts.levels)) or len(counts.tp) != len(counts.rows):
            raise ValueError(counts.called.shape)
    except (ValueError, TypeError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        stage = path.parent.name
        raise UserError(f"{path}: damaged; delete the folder {stage} and run `ssl-defect {stage}` again") from error
    return Kept(counts, known, threshold)
