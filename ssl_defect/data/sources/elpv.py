"""Solar cells in electroluminescence: 2,624 grey pictures of the package `elpv-dataset`, graded, without masks.

The pictures are licensed CC BY-NC-SA 4.0: no commercial use. Cite Buerhop-Lutz et al., A benchmark for visual
identification of defective solar cells in electroluminescence imagery, EU PVSEC 2018; Deitsch et al., Automatic
classification of defective photovoltaic module cells in electroluminescence images, Solar Energy 2019; Deitsch et
al., Segmentation of photovoltaic module cells in uncalibrated electroluminescence images, MVA 2021.

The grade is the probability of a defect (0, 1/3, 2/3, 1); from one half upwards a cell counts as defective.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ssl_defect.config import Settings
from ssl_defect.data.records import GOOD, Sample
from ssl_defect.data.sources.listing import relative, require_folder
from ssl_defect.errors import UserError

DEFECTIVE = "defective"


class Options(Settings):
    """data.options of the source `elpv`."""

    kind: Literal["all", "mono", "poly"] = Field("all", description="Which cells: mono- or polycrystalline, or all.")
    threshold: float = Field(0.5, gt=0, le=1, description="Grade from which on a cell counts as defective.")


def scan(root: Path, options: Options) -> list[Sample]:
    """List the cells in the order of their paths; nothing is decoded. The grade is kept in every sample.

    Args:
        root: `package:elpv_dataset` resolved, its folder `data`, or a copy of either.

    Raises:
        UserError: missing or empty folder, no `labels.csv`, or a line in it that cannot be read.
    """
    require_folder(root)
    table = next((path for path in (root / "data" / "labels.csv", root / "labels.csv") if path.is_file()), None)
    if table is None:
        raise UserError(f"data.root: {root} holds no labels.csv; take package:elpv_dataset or a copy of it")
    rows = [(number, line.split()) for number, line in enumerate(table.read_text("utf-8").splitlines(), 1)]
    cells = [_cell(table, number, fields) for number, fields in rows if fields]
    samples = [
        Sample(
            image=relative(table.parent / path, root),
            label=int(grade >= options.threshold),
            defect=DEFECTIVE if grade >= options.threshold else GOOD,
            grade=grade,
        )
        for path, grade, kind in cells
        if options.kind in ("all", kind)
    ]
    if not samples:
        raise UserError(f"{table}: lists no cells of kind '{options.kind}'")
    return sorted(samples, key=lambda sample: sample.image)


def _cell(table: Path, number: int, fields: list[str]) -> tuple[str, float, str]:
    try:
        path, grade, kind = fields
        if not 0 <= float(grade) <= 1:
            raise ValueError
    except ValueError as error:
        raise UserError(f"{table}: line {number} is not `path grade kind` with a grade in 0..1") from error
    return path, float(grade), kind
