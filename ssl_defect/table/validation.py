"""What runs have reached on their validation images: for choosing settings, with the test labels closed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_defect.artifacts import Record, read_json, read_record
from ssl_defect.compare.runs import costs_of
from ssl_defect.data.store import AUDIT
from ssl_defect.report.endings import ending
from ssl_defect.table.expand import Cell
from ssl_defect.table.measure import STAGES, VARIOUS, Measured, common, reached, validation_counts
from ssl_defect.table.settings import VALIDATION


def measure_validation(cell: Cell, folders: Sequence[tuple[int, Path]]) -> Measured:
    """The runs of a cell, `(seed, folder)` each, as far as fine-tuning has come: one figure per seed, no parts of it.

    Raises:
        UserError: a record is missing or damaged.
    """
    facts = [_facts(folder) for _, folder in folders]
    splits = {fact["split_digest"] for fact in facts}
    best = np.array([reached(folder) for _, folder in folders], dtype=np.float64)
    return Measured(
        cell=cell,
        seeds=[seed for seed, _ in folders],
        points={VALIDATION: best},
        without={},
        tested_on=splits.pop() if len(splits) == 1 else VARIOUS,
        apart={},
        costs=[_costs(folder) for _, folder in folders],
        validation=best[None],
        chosen_by=common([fact["metric"] for fact in facts]),
        facts=facts,
    )


def _facts(folder: Path) -> dict[str, Any]:
    audit, record = read_json(folder / "prepare" / AUDIT), read_record(folder / "finetune")
    told = read_json(folder / "finetune" / "finetune.json")
    return {
        "split": audit["split"],
        "split_digest": audit["split_digest"],
        "validation": validation_counts(audit),
        "metric": told.get("validation_metric", ""),
        "ending": ending(told, record.settings.get("batch_size") if record else None),
        "machine": record.machine if record else {},
        "versions": record.versions if record else {},
    }


def _costs(folder: Path) -> dict[str, float | None]:
    records: list[Record | None] = [read_record(folder / stage) for stage in STAGES]
    pretrain, finetune = (read_json(folder / name / f"{name}.json") for name in ("pretrain", "finetune"))
    return costs_of(folder, pretrain, finetune, {}, [one for one in records[1:] if one])
