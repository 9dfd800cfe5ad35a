"""A small prepared set of striped parts: every part its own stripes, a bright spot on the defective ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ssl_defect.config import Recipe
from ssl_defect.data.records import Sample, write_samples

SIZE = 32


def draw_stripes(rng: np.random.Generator, label: int, channels: int) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    turn, waves, phase = rng.uniform(0, np.pi), rng.uniform(1, 5), rng.uniform(0, 2 * np.pi)
    image = 110 + 60 * np.sin(2 * np.pi * waves * (x * np.cos(turn) + y * np.sin(turn)) + phase)
    if label:
        top, left = rng.integers(4, SIZE - 10, 2)
        image[top : top + 6, left : left + 6] = 250
    image = image + rng.normal(0, 4, image.shape)
    return np.repeat(image.clip(0, 255).astype(np.uint8)[:, :, None], channels, axis=2)


def write_prepared(folder: Path, count: int = 96, channels: int = 1, labels: tuple[int, ...] = (0, 0, 1)) -> Path:
    """`count` images, two thirds for training, a sixth each for validation and test; pairs share a group."""
    folder.mkdir(parents=True)
    rng, samples, images = np.random.default_rng(0), [], []
    for number in range(count):
        label = labels[number % len(labels)]
        split = ("train", "train", "train", "train", "val", "test")[number // 6 % 6]
        defect = "spot" if label else "good"
        samples.append(Sample(f"{number}.png", "", label, defect, number // 2, split))
        images.append(draw_stripes(rng, label, channels))
    write_samples(folder / "samples.csv", samples)
    np.save(folder / "images.npy", np.stack(images))
    return folder


def make_recipe(method: str, backbone: str, **pretrain: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "test",
            "data": {"source": "folder", "root": ".", "image_size": SIZE},
            "model": {"backbone": backbone},
            "pretrain": {"method": method, "batch_size": 16, "epochs": 2} | pretrain,
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )
