"""A small prepared set of real pictures: solar cells of the wheel `elpv-dataset`, reduced to 32 pixels."""

from __future__ import annotations

from pathlib import Path

import elpv_dataset
import numpy as np
from PIL import Image
from striped_parts import SIZE

from ssl_defect.data.records import Sample, write_samples


def write_cells(folder: Path, count: int = 144) -> Path:
    """`count` cells, every 16th of the set: two thirds for training, a sixth each for validation and test."""
    folder.mkdir(parents=True)
    root = Path(elpv_dataset.__file__).parent / "data"
    lines = (root / "labels.csv").read_text(encoding="utf-8").split("\n")
    samples, images = [], []
    for number, line in enumerate(lines[: 16 * count : 16]):
        name, probability = line.split()[:2]
        label = int(float(probability) >= 0.5)
        split = ("train", "train", "train", "train", "val", "test")[number % 6]
        samples.append(Sample(f"{number}.png", "", label, "defective" if label else "good", number, split))
        with Image.open(root / name) as picture:
            images.append(np.asarray(picture.convert("L").resize((SIZE, SIZE), Image.Resampling.BOX))[:, :, None])
    write_samples(folder / "samples.csv", samples)
    np.save(folder / "images.npy", np.stack(images))
    return folder
