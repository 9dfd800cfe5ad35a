"""Dark noise with bright squares and bars, an easy set for detectors of boxes; every third picture is good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_defect.config import Recipe
from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.finetune.box_task import BoxTask
from ssl_defect.finetune.stage import find_task, make_spec
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector

SIDE = 64


def make_store(count: int = 48, side: int = SIDE) -> Store:
    rng, samples, images, masks = np.random.default_rng(0), [], [], []
    for number in range(count):
        kind = ("good", "square", "bar")[number % 3]
        image, mask = rng.normal(70, 8, (side, side)), np.zeros((side, side), np.uint8)
        for left in (2, side // 2 + 2)[: 0 if kind == "good" else 1 + number % 2]:
            height, width = rng.integers(9, 14, 2) if kind == "square" else (20, 7)
            x, y = left + rng.integers(0, side // 2 - 16), rng.integers(2, side - 24)
            mask[y : y + height, x : x + width] = 1
        image += 140 * mask
        split = ("train", "train", "val", "test")[number // 3 % 4]
        samples.append(Sample(f"{number}.png", "", int(kind != "good"), kind, number, split, width=side, height=side))
        images.append(image.clip(0, 255).astype(np.uint8)[..., None])
        masks.append(mask)
    return Store(Path(), samples, np.stack(images), np.stack(masks))


def make_task(store: Store, name: str = "detection", backbone: str = "test_resnet", **options: Any) -> BoxTask:
    recipe = Recipe.model_validate(
        {
            "name": "squares",
            "data": {"source": "synthetic", "root": "nowhere", "image_size": store.images.shape[1]},
            "model": {"backbone": backbone},
            "finetune": {"task": name, "options": {"width": 32, "detections": 20} | options},
        }
    )
    kind, settings = find_task(recipe)
    spec = make_spec(recipe, store, kind, settings)
    torch.manual_seed(0)
    task = kind(Detector(build_encoder(backbone, spec.image_size), spec), settings, store)
    assert isinstance(task, BoxTask)
    return task


def batch_of(task: BoxTask, store: Store, rows: np.ndarray) -> dict[str, Any]:
    extras = task.extras(store, task.options)
    assert extras is not None
    assert store.masks is not None
    return {
        "image": torch.from_numpy(store.images[rows]).permute(0, 3, 1, 2),
        "mask": torch.from_numpy(store.masks[rows]).unsqueeze(1),
        "target": torch.from_numpy(task.targets(store, task.options)[rows]),
        "generator": torch.Generator().manual_seed(int(rows[0])),
        **extras(rows),
    }
