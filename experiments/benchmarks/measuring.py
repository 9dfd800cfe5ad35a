"""What a detector of either side costs, and how good its scores and maps are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from anomalib_peer import Side
from torch import Tensor

from ssl_defect.data.store import Store
from ssl_defect.evaluate.bootstrap import Resampling, intervals
from ssl_defect.evaluate.metrics import image_family
from ssl_defect.evaluate.regions import count_pixels, pixel_family

BATCH, LIMIT = 32, 0.3
SHOWN = {"image auroc": "image AUROC", "pixel auroc": "pixel AUROC", "pixel ap": "pixel AP", "pixel aupro": "AUPRO"}


def as_tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def batches(images: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(images), BATCH):
        yield as_tensor(images[start : start + BATCH])


def predictions(model: Side, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores (n,), maps (n, S, S), and milliseconds per image; the first batch is seen once before the clock runs."""
    maps = np.empty(images.shape[:3], np.float32)
    scores = np.empty(len(images))
    model.predict(as_tensor(images[:BATCH]))
    seconds, place = 0.0, 0
    for x in batches(images):
        began = time.perf_counter()
        score, found = model.predict(x)
        seconds += time.perf_counter() - began
        scores[place : place + len(x)], maps[place : place + len(x)] = score.numpy(), found.numpy()
        place += len(x)
    return scores, maps, round(1000 * seconds / len(images), 3)


def one_by_one(model: Side, images: np.ndarray) -> float:
    """Median milliseconds of a single picture."""
    spans = []
    for number in range(-3, len(images)):
        x = as_tensor(images[max(number, 0)][None])
        began = time.perf_counter()
        model.predict(x)
        spans.append(time.perf_counter() - began)
    return round(1000 * median(spans[3:]), 3)


def quality(store: Store, test: np.ndarray, scores: np.ndarray, maps: np.ndarray) -> dict[str, Any]:
    """Our metrics with intervals, whoever made the scores."""
    assert store.masks is not None
    labels, groups, spec = store.labels[test], store.groups[test], Resampling()
    found = {f"image {key}": value for key, value in intervals(image_family(labels, scores, 0.5), groups, spec).items()}
    counts = count_pixels(maps, store.masks[test], 0.5)
    pixel = intervals(pixel_family(counts, 0.5, LIMIT), groups, spec)
    found |= {f"pixel {key}": value for key, value in pixel.items()}
    return {key: found[key] for key in SHOWN}


def memory(reset: bool = False) -> float:
    """MiB: the most that this process has held since the last reset; with `reset` what it holds now."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    name = "VmRSS:" if reset else "VmHWM:"
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def shown(entry: dict[str, Any]) -> str:
    if entry["value"] is None:
        return "-"
    return f"{entry['value']:.3f}" + ("" if entry["low"] is None else f" ({entry['low']:.3f} to {entry['high']:.3f})")
