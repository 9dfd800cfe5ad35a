"""A finished prepare folder, opened: samples and memory-mapped pictures, so that memory stays flat as the set grows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_defect.artifacts import read_json, write_json
from ssl_defect.data.records import GOOD, Sample, parse_boxes, read_samples
from ssl_defect.errors import UserError

IMAGES = "images.npy"
MASKS = "masks.npy"
SAMPLES = "samples.csv"
AUDIT = "audit.json"
OPENED = "test_opened.json"  # in a run's folder: split digest -> when its test labels were opened
HIDDEN = -1  # label of a test image, where test labels are closed
CLOSED = "labels and masks of test images are opened by `evaluate` alone; train on rows of train, choose on val"


class Sealed(np.ndarray[Any, Any]):
    """An array that refuses to give some of its rows; what is computed from the whole of it does not."""

    shut: npt.NDArray[np.bool_] | None = None

    def __getitem__(self, index: Any) -> Any:
        first = index[0] if isinstance(index, tuple) else index
        if self.shut is not None and np.any(self.shut[first]):
            raise UserError(CLOSED)
        return self.view(np.ndarray)[index]

    def __repr__(self) -> str:
        return f"<{self.dtype} {self.shape}, some rows closed>" if self.shut is not None else super().__repr__()


def _sealed(array: npt.NDArray[Any], shut: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    found = array.view(Sealed)
    found.shut = shut
    return found


@dataclass(frozen=True)
class Names:
    """Class names that only closed rows may bear: a detector's classes are those of the whole set."""

    classes: frozenset[str] = frozenset()
    boxes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Store:
    """The prepared pictures. Row i of every array is `samples[i]`.

    Attributes:
        folder: the prepare folder of a run.
        samples: one record per usable image.
        images: uint8 (N, S, S, C) in [0, 255], C = 1 for a set of grey pictures, else 3; a read-only memory map.
        masks: uint8 (N, S, S) of 0 and 1, a read-only memory map; None for a set without masks.
        shut: (N,) True for the test images of a store without test; None where all is open.
        names: of classes, of rows that are shut.
    """

    folder: Path
    samples: list[Sample]
    images: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8] | None
    shut: npt.NDArray[np.bool_] | None = None
    names: Names = field(default_factory=Names)

    def without_test(self) -> Store:
        """The store as training gets it: what is known of a test image but its pixels and its group is not in it.

        Asking for test rows, or for the label or the mask of one, raises `UserError`. The names of all classes stay.
        """
        tested = [sample for sample in self.samples if sample.split == "test"]
        shut = np.array([sample.split == "test" for sample in self.samples], dtype=bool)
        boxes = frozenset(box.defect for sample in tested if sample.boxes for box in parse_boxes(sample.boxes))
        return replace(
            self,
            samples=[_hidden(sample) if sample.split == "test" else sample for sample in self.samples],
            masks=None if self.masks is None else _sealed(self.masks, shut),
            shut=shut,
            names=Names(frozenset(sample.defect for sample in tested), boxes),
        )

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """Row numbers of `train`, `val` or `test`, ascending.

        Raises:
            UserError: those of test, where test is closed.
        """
        if split == "test" and self.shut is not None:
            raise UserError(CLOSED)
        return np.array([row for row, sample in enumerate(self.samples) if sample.split == split], dtype=np.int64)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N,) 0 for good, 1 for defective."""
        found = np.array([sample.label for sample in self.samples], dtype=np.int64)
        return found if self.shut is None else _sealed(found, self.shut)

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """(N,) near-copies share a number."""
        return np.array([sample.group for sample in self.samples], dtype=np.int64)

    @property
    def defects(self) -> list[str]:
        """Class of each row, `good` for a good part, empty for one that is shut."""
        return [sample.defect for sample in self.samples]

    @property
    def classes(self) -> list[str]:
        """`good` first, then the defect names in order; `good` is listed even where the set has none."""
        return [GOOD, *sorted((set(self.defects) | self.names.classes) - {GOOD, ""})]

    @property
    def class_numbers(self) -> npt.NDArray[np.int64]:
        """(N,) place of each row's defect in `classes`: 0 is good, -1 a row that is shut."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers.get(defect, HIDDEN) for defect in self.defects], dtype=np.int64)


def _hidden(sample: Sample) -> Sample:
    return replace(sample, mask="", label=HIDDEN, defect="", grade=None, area=0.0, boxes="")


def open_for_training(folder: Path) -> Store:
    """A prepare folder as pretraining and fine-tuning get it: without the labels and masks of its test images.

    Raises:
        UserError: as `open_store`.
    """
    return open_store(folder).without_test()


def open_test(folder: Path, run: Path) -> tuple[Store, int]:
    """A prepare folder with its test labels, and how often the run has opened those of this split, now included.

    The count is kept in the run's folder before the store is handed out, so that neither an evaluation that is made
    anew nor one that was stopped is lost.

    Raises:
        UserError: as `open_store`, or the file of the count is damaged.
    """
    store, place = open_store(folder), run / OPENED
    split = str(read_json(folder / AUDIT).get("split_digest", ""))
    known: dict[str, list[str]] = read_json(place) if place.exists() else {}
    times = [*known.get(split, []), datetime.now(UTC).isoformat(timespec="seconds")]
    write_json(place, known | {split: times})
    return store, len(times)


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
