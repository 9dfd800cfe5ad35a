"""What one pretraining is about, and the names of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssl_defect.config import Recipe
from ssl_defect.data.store import Store
from ssl_defect.pretrain.base import Method
from ssl_defect.train.batches import Rows

ENCODER = "encoder.safetensors"
CHECKPOINT = "checkpoint.pt"
PRELIMINARY = "preliminary.pt"


@dataclass(frozen=True)
class Work:
    """One pretraining: what learns, from which rows, how many a step, from which starting weights, to where."""

    recipe: Recipe
    method: Method
    store: Store
    rows: Rows
    batch_size: int
    origin: str
    out: Path
