"""A small table on drawn parts, with all that it may vary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

BASE = {
    "name": "small",
    "data": {
        "source": "synthetic",
        "root": "parts",
        "image_size": 32,
        "copies": False,
        "options": {"good": 24, "defective": 4, "size": 32},
    },
    "model": {"backbone": "test_resnet"},
    "pretrain": {"epochs": 1, "batch_size": 8, "snapshots": 0},
    "finetune": {
        "task": "segmentation",
        "steps": 2,
        "batch_size": 4,
        "eval_every": 2,
        "options": {"decoder_width": 8},
    },
    "evaluate": {"bootstrap": 100},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}
TABLE: dict[str, Any] = {
    "name": "small",
    "base": BASE,
    "matrix": {"pretrain.method": ["none", "rotation"], "finetune.labels_per_class": [2, None]},
    "seeds": 1,
    "baseline": {"pretrain.method": "none"},
    "metrics": ["image auroc", "pixel ap"],
    "columns": ["finetune.labels_per_class"],
}


def write(folder: Path, **more: Any) -> Path:
    (folder / "small.yaml").write_text(yaml.safe_dump(TABLE | more, sort_keys=False))
    return folder / "small.yaml"
