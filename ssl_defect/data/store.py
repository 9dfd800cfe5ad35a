"""A finished prepare folder, opened: samples and memory-mapped pictures, so that memory stays flat as the set grows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_defect.data.records import GOOD, Sample, read_samples
from ssl_defect.errors import UserError

IMAGES = "images.npy"
MASKS = "masks.npy"
SAMPLES = "samples.csv"
AUDIT = "audit.json"


@dataclass(frozen=True)
class Store:
    """The prepared pictures. Row i of every array is `samples[i]`.

    Attributes:
        folder: the prepare folder of a run.
        samples: one record per usable image.
        images: uint8 (N, S, S, C) in [0, 255], C = 1 for a set of grey pictures, else 3; a read-only memory map.
        masks: uint8 (N, S, S) of 0 and 1, a read-only memory map; None for a set without masks.
    """

    folder: Path
    samples: list[Sample]
    images: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8] | None

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """Row numbers of `train`, `val` or `test`, ascending."""
        return np.array([row for row, sample in enumerate(self.samples) if sample.split == split], dtype=np.int64)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N,) 0 for good, 1 for defective."""
        return np.array([sample.label for sample in self.samples], dtype=np.int64)

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """(N,) near-copies share a number."""
        return np.array([sample.group for sample in self.samples], dtype=np.int64)

    @property
    def defects(self) -> list[str]:
        """Class of each row, `good` for a good part."""
        return [sample.defect for sample in self.samples]

    @property
    def classes(self) -> list[str]:
        """`good` first, then the defect names in order; `good` is listed even where the set has none."""
        return [GOOD, *sorted(set(self.defects) - {GOOD})]


def open_store(folder: Path) -> Store:
    """Open a prepare folder.

    Raises:
        UserError: a file is missing or damaged, or the files do not belong together.
    """
    samples = read_samples(folder / SAMPLES)
    images = _map(folder / IMAGES)
    masks = _map(folder / MASKS) if (folder / MASKS).exists() else None
    _check(folder, len(samples), images, masks)
    return Store(folder, samples, images, masks)


def _map(path: Path) -> npt.NDArray[np.uint8]:
    try:
        array: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run `ssl-defect prepare` first") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: damaged; delete the folder and run `ssl-defect prepare` again") from error
    return array


def _check(folder: Path, count: int, images: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8] | None) -> None:
    fits = images.dtype == np.uint8 and images.ndim == 4 and images.shape[0] == count and images.shape[3] in (1, 3)
    if fits and masks is not None:
        fits = masks.dtype == np.uint8 and masks.shape == images.shape[:3]
    if not fits:
        raise UserError(f"{folder}: its files do not belong together; delete it and run `ssl-defect prepare` again")
