"""A sample: one flat record per image, and the CSV that a person can open."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ssl_defect.artifacts import atomic
from ssl_defect.errors import UserError

GOOD = "good"


@dataclass(frozen=True)
class Sample:
    """One image. Row i of `samples.csv` is row i of `images.npy` and `masks.npy`.

    Attributes:
        image: path relative to the data root, with forward slashes.
        mask: path of the mask relative to the root; empty where there is none.
        label: 0 for good, 1 for defective.
        defect: the class, `good` for a good part.
        group: near-copies share it; -1 before the audit.
        split: `train`, `val` or `test`; empty before splitting.
        published_split: `train` or `test` where the set comes with a split.
        grade: probability or severity of a defect in [0, 1] where the set gives one, else None.
        width, height: pixels of the raw picture. Before it is decoded those that its boxes were annotated on, where the
            source tells them, else 0; a picture of another size is then set aside.
        area: share of defective pixels in the raw mask, in [0, 1]; 0 without a mask.
        boxes: annotated boxes as `format_boxes` writes them, in pixels of the raw picture; empty where there are none.
    """

    image: str
    mask: str = ""
    label: int = 0
    defect: str = GOOD
    group: int = -1
    split: str = ""
    published_split: str = ""
    grade: float | None = None
    width: int = 0
    height: int = 0
    area: float = 0.0
    boxes: str = ""


COLUMNS = [field.name for field in fields(Sample)]
ADDED = {"boxes"}  # columns that files of an earlier version lack


@dataclass(frozen=True)
class Box:
    """A defect: edges in pixels of the raw picture, the right and the lower one exclusive, and the defect's class."""

    x1: float
    y1: float
    x2: float
    y2: float
    defect: str

    def __str__(self) -> str:
        edges = " ".join(f"{edge:.3f}".rstrip("0").rstrip(".") for edge in (self.x1, self.y1, self.x2, self.y2))
        return f"{edges} {self.defect}"


def format_boxes(boxes: Iterable[Box]) -> str:
    """`x1 y1 x2 y2 class; x1 y1 ...`, edges to a thousandth of a pixel; `;` and `%` in a class as `%3B` and `%25`."""
    return "; ".join(str(replace(box, defect=_escape(box.defect))) for box in boxes)


def parse_boxes(text: str) -> list[Box]:
    """The boxes that `format_boxes` wrote.

    Raises:
        ValueError: an entry is no box.
    """
    entries = [entry.strip().split(" ", 4) for entry in text.split(";") if entry.strip()]
    found = []
    for entry in entries:
        if len(entry) != 5:
            raise ValueError(f"'{' '.join(entry)}' is not `x1 y1 x2 y2 class`")
        x1, y1, x2, y2 = (float(edge) for edge in entry[:4])
        found.append(Box(x1, y1, x2, y2, entry[4].replace("%3B", ";").replace("%25", "%")))
    return found


def _escape(defect: str) -> str:
    return " ".join(defect.split()).replace("%", "%25").replace(";", "%3B")


def write_samples(path: Path, samples: list[Sample]) -> None:
    """Write `samples.csv` atomically; a missing grade is an empty cell."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for sample in samples:
            row = [getattr(sample, column) for column in COLUMNS]
            writer.writerow(["" if value is None else value for value in row])


def read_samples(path: Path) -> list[Sample]:
    """Read `samples.csv`.

    Raises:
        UserError: the file is missing or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run `ssl-defect prepare` first") from error
    missing = [column for column in COLUMNS if rows and column not in rows[0] and column not in ADDED]
    if missing:
        raise UserError(f"{path}: lacks the columns {', '.join(missing)}; run `ssl-defect prepare` again")
    return [_sample(row) for row in rows]


def _sample(row: dict[str, str]) -> Sample:
    return replace(
        Sample(image=row["image"], mask=row["mask"], defect=row["defect"], split=row["split"]),
        label=int(row["label"]),
        group=int(row["group"]),
        published_split=row["published_split"],
        grade=float(row["grade"]) if row["grade"] else None,
        width=int(row["width"]),
        height=int(row["height"]),
        area=float(row["area"]),
        boxes=row.get("boxes", ""),
    )
