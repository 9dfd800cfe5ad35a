"""Pictures in which it is known what makes a part defective: a dark blob, among light ones that mean nothing.

So easy that a small ViT learns it in minutes from labels of whole pictures; the light blobs are as large and as strong,
so that an explanation which only marks what stands out is told from one that marks the defect.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ssl_defect.artifacts import read_json, write_json

STEP = 0.25  # how much lighter or darker, of a range of 1
DONE = "blobs.json"


def draw(rng: np.random.Generator, size: int, defective: bool) -> tuple[np.ndarray, np.ndarray]:
    """A picture, and the mask of its dark blob, which is empty for a good one: both uint8 (size, size), mask 0 or 255.

    A cloudy grey surface with noise, one to three light blobs and, if defective, a dark one that covers them.
    """
    cloud = cv2.resize(rng.normal(0, 0.04, (5, 5)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    picture = rng.uniform(0.42, 0.58) + cloud
    for _ in range(rng.integers(1, 4)):
        picture[_blob(rng, size)] += STEP
    mask = _blob(rng, size) if defective else np.zeros((size, size), bool)
    picture[mask] = picture.mean() - STEP
    noisy = cv2.GaussianBlur(picture, (0, 0), 0.6) + rng.normal(0, 0.02, picture.shape)
    return np.rint(noisy.clip(0, 1) * 255).astype(np.uint8), mask.astype(np.uint8) * 255


def write(root: Path, size: int, good: int, defective: int, seed: int) -> Path:
    """Fill `root` in the layout of MVTec AD, unless it holds these pictures already; no two show the same part."""
    wanted = {"size": size, "good": good, "defective": defective, "seed": seed}
    if (root / DONE).is_file() and read_json(root / DONE) == wanted:
        return root
    for number in range(good + defective):
        bad = number >= good
        picture, mask = draw(np.random.default_rng((seed, number)), size, bad)
        part = "train/good" if number < good // 2 else "test/dark" if bad else "test/good"
        _save(root / part / f"{number:04d}.png", picture)
        if bad:
            _save(root / "ground_truth" / "dark" / f"{number:04d}_mask.png", mask)
    write_json(root / DONE, wanted)
    return root


def _blob(rng: np.random.Generator, size: int) -> np.ndarray:
    """A turned ellipse wholly in the picture, 8 to 22% of its side long: bool (size, size)."""
    axes = rng.uniform(0.04, 0.11, 2) * size
    center = rng.uniform(axes.max(), size - axes.max(), 2)
    rows, columns = np.mgrid[:size, :size] + 0.5
    turn = rng.uniform(0, np.pi)
    along = (rows - center[0]) * np.cos(turn) + (columns - center[1]) * np.sin(turn)
    across = (columns - center[1]) * np.cos(turn) - (rows - center[0]) * np.sin(turn)
    return (along / axes[0]) ** 2 + (across / axes[1]) ** 2 <= 1


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=1)
