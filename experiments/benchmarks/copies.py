"""Seconds and peak memory of the near-copy search: `python experiments/benchmarks/copies.py [IMAGES]` (10,000)."""

from __future__ import annotations

import os
import resource
import sys
import time

import cv2
import numpy as np

from ssl_defect.data.copies import find_copies

SIDE = 128


def pictures(count: int, copies: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(count, SIDE, SIDE, 1) uint8 textures; each part is shown `copies` times, cropped, turned and lit otherwise."""
    rng = np.random.default_rng(0)
    images = np.empty((count, SIDE, SIDE, 1), dtype=np.uint8)
    part = np.arange(count) // copies
    for row in range(count):
        if row % copies == 0:
            noise = rng.standard_normal((160, 160), dtype=np.float32)
            texture = cv2.GaussianBlur(noise, (0, 0), 1.5, sigmaY=float(rng.uniform(1.5, 10)))
            texture *= 22 / texture.std()
        x, y = rng.integers(0, 16, 2)
        view = cv2.resize(texture[y : y + 144, x : x + 144], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        view = np.rot90(view, rng.integers(4)) * rng.uniform(0.6, 1.4) + rng.uniform(90, 130)
        images[row, ..., 0] = np.clip(view, 0, 255)
    return images, part


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    images, part = pictures(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, used = time.perf_counter(), time.process_time()
    groups = find_copies(images)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    right = sum(len(set(part[groups == group])) == 1 for group in range(groups.max() + 1))
    print(
        f"{count} images of {SIDE} px, {len(set(part))} parts: {seconds:.1f} s on "
        f"{len(os.sched_getaffinity(0))} cores, {used:.1f} s of processor time"
    )
    print(f"{groups.max() + 1} groups, {right} of them of one part")
    print(f"memory {before / 1024:.0f} MiB before, {peak / 1024:.0f} MiB at most; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
