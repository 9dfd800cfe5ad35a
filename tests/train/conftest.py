"""A small prepared set of noise for the loop and its batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store


@pytest.fixture
def store() -> Store:
    """50 training images (image i is filled with i, its mask with i % 2) and 10 for validation."""
    count = 60
    samples = [Sample(f"{i}.png", "", i % 2, "good", i // 2, "train" if i < 50 else "val") for i in range(count)]
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 8, 8, 1)).copy()
    masks = np.broadcast_to((np.arange(count) % 2).astype(np.uint8)[:, None, None], (count, 8, 8)).copy()
    return Store(Path(), samples, images, masks)
