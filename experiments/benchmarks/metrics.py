"""Seconds for the metrics alone: pixel metrics on 100 maps of 256 x 256 beside anomalib's, and intervals.

    python experiments/benchmarks/metrics.py [--threads 2] [--rounds 5]

Where anomalib is installed (see anomaly.py beside this), its pixel metrics are computed on the same maps in the same
run, in turns, and the differences are printed; where it is not, that part is left out. Its AUPR is the area under
straight lines between the points of the curve; ours is average precision and stands beside scikit-learn's.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from threadpoolctl import threadpool_limits

from ssl_defect.evaluate.bootstrap import Resampling, intervals
from ssl_defect.evaluate.metrics import image_family
from ssl_defect.evaluate.regions import count_pixels, pixel_family

LIMIT = 0.3


def maps_and_masks(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = np.zeros((count, size, size), np.uint8)
    for mask in masks[: count * 3 // 5]:
        for _ in range(rng.integers(1, 4)):
            cv2.circle(mask, rng.integers(0, size, 2).tolist(), int(rng.integers(1, 25)), 1, -1)
    logits = rng.normal(size=masks.shape).astype(np.float32)
    for each, mask in zip(logits, masks, strict=True):
        each[:] = 8 * cv2.GaussianBlur(each, (0, 0), 3) + 6 * cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 4) - 3
    return 1 / (1 + np.exp(-logits)), masks


def best_of(repeats: int, work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def beside_anomalib(maps: np.ndarray, masks: np.ndarray, rounds: int) -> None:
    """Both sides on the same maps, in turns: seconds (the least of all rounds) and differences."""
    own = pixel_metrics(maps, masks)
    sides: dict[str, Callable[[], Any]] = {"ours, AUROC, AP, AUPRO, IoU, Dice": lambda: pixel_metrics(maps, masks)}
    peers = anomalib_metrics()
    if peers is None:
        print("anomalib is not installed here: its side is left out")
    scores, truth = torch.from_numpy(maps), torch.from_numpy(masks.astype(np.int64))
    for name, make in (peers or {}).items():
        sides[f"anomalib, {name}"] = lambda make=make: updated(make(), scores, truth)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    values: dict[str, Any] = {}
    for _ in range(rounds):
        for name, work in sides.items():
            began = time.perf_counter()
            values[name] = work()
            seconds[name].append(time.perf_counter() - began)
    least = {name: min(spans) for name, spans in seconds.items()}
    for name, span in least.items():
        print(f"{name}, {len(maps)} maps of {maps.shape[1]} x {maps.shape[2]}: {span:.3f} s")
    mine = least.pop("ours, AUROC, AP, AUPRO, IoU, Dice")
    for name, key in (("AUPRO", "aupro"), ("AUROC", "auroc")):
        if peers:
            theirs = values[f"anomalib, {name}"]
            print(f"{name}: ours {own[key]:.6f}, anomalib {theirs:.6f}, difference {own[key] - theirs:+.1e}")
    flat = masks.ravel(), maps.ravel()
    for name, key, reference in (
        ("AUROC", "auroc", roc_auc_score(*flat)),
        ("AP", "ap", average_precision_score(*flat)),
    ):
        print(f"{name}: ours {own[key]:.6f}, scikit-learn {reference:.6f}, difference {own[key] - reference:+.1e}")
    if peers:
        only, every = least["anomalib, AUPRO"], sum(least.values())
        print(f"our five are {only / mine:.1f} times as fast as its AUPRO alone, {every / mine:.1f} times as its three")


def anomalib_metrics() -> dict[str, Callable[[], Any]] | None:
    """Makers of anomalib's pixel metrics; None where it is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from anomalib.metrics.aupr import _AUPR
            from anomalib.metrics.aupro import _AUPRO
            from anomalib.metrics.auroc import _AUROC
    except ImportError:
        return None
    return {"AUPRO": lambda: _AUPRO(fpr_limit=LIMIT), "AUROC": _AUROC, "AUPR": _AUPR}


def updated(metric: Any, scores: torch.Tensor, truth: torch.Tensor) -> float:
    metric.update(scores, truth)
    return float(metric.compute())


def pixel_metrics(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    counts = count_pixels(maps, masks, 0.5)
    found = pixel_family(counts, 0.5, LIMIT)(np.ones((1, len(maps))))
    return {name: float(value[0]) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    with threadpool_limits(options.threads):
        measure(options.rounds)


def measure(rounds: int) -> None:
    maps, masks = maps_and_masks(100, 256)
    beside_anomalib(maps, masks, rounds)
    spec = Resampling(1000, 0.95, 0)
    for images in (100, 900):
        counts = count_pixels(np.resize(maps, (images, 256, 256)), np.resize(masks, (images, 256, 256)), 0.5)
        family = pixel_family(counts, 0.5, LIMIT)
        seconds = best_of(1, lambda f=family, n=images: intervals(f, np.arange(n), spec))
        print(f"intervals of the five pixel metrics over {images} images: {seconds:.2f} s")
    labels = np.arange(1000) % 3 == 0
    family = image_family(labels, np.random.default_rng(0).normal(labels), 0.5)
    seconds = best_of(3, lambda: intervals(family, np.arange(1000), spec))
    print(f"intervals of the six image metrics over 1,000 images: {seconds:.2f} s")


if __name__ == "__main__":
    main()
