"""Are near-copies of test images left in train? A check that shares nothing with the search for groups.

    python experiments/copies_check.py RUN/prepare ROOT              # the split of a run; ROOT is its data.root
    python experiments/copies_check.py --pictures ROOT               # any folder: groups and split made here

Every raw picture is read again at its own shape. Local features (SIFT; Lowe, IJCV 2004) of every test picture are
matched with those of every train picture (and validation picture, apart), and a pair is a suspect if `INLIERS` or more
matches agree on one similarity transform (RANSAC). No thumbnails, no correlation, no groups. Mirrored copies are not
looked for. `--sheet FILE.png` shows the suspects side by side, to be judged by eye.
"""

from __future__ import annotations

import argparse
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ssl_defect.config import DataSettings
from ssl_defect.console import say, track
from ssl_defect.data.copies import find_copies
from ssl_defect.data.records import Sample, read_samples
from ssl_defect.data.splits import leak_share, split_samples

LONG_SIDE = 256  # pixels
FEATURES = 150  # per picture
RATIO = 0.8  # of the distances to the best and second-best match
INLIERS = 10  # two pictures of different Magnetic Tiles hardly ever have more than 3
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}

Features = tuple[NDArray[np.float32], NDArray[np.float32]]


def read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"{path}: not a picture that OpenCV reads")
    return image.astype(np.uint8)


def features(image: NDArray[np.uint8]) -> Features:
    """Places (n, 2) in pixels and root-normalised descriptors (n, 128)."""
    scale = LONG_SIDE / max(image.shape)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    small = cv2.createCLAHE(4, (4, 4)).apply(small)
    points, found = cv2.SIFT_create(FEATURES, contrastThreshold=0.02).detectAndCompute(small, None)
    if found is None:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.float32)
    root = np.sqrt(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-6))
    return np.array([point.pt for point in points], np.float32), root.astype(np.float32)


def inliers(one: Features, other: Features) -> int:
    """Matches that agree on a similarity transform of scale 0.6 to 1.7."""
    if min(len(one[0]), len(other[0])) < INLIERS:
        return 0
    similar = one[1] @ other[1].T
    rows = np.arange(len(similar))
    first = similar.argmax(axis=1)
    best = similar[rows, first]
    mutual = similar.argmax(axis=0)[first] == rows
    similar[rows, first] = -1
    clear = 1 - best < RATIO**2 * (1 - similar.max(axis=1))
    chosen = np.flatnonzero(mutual & clear)
    if len(chosen) < INLIERS:
        return 0
    map_, agree = cv2.estimateAffinePartial2D(
        one[0][chosen], other[0][first[chosen]], ransacReprojThreshold=4, maxIters=500
    )
    return int(agree.sum()) if map_ is not None and 0.6 < np.hypot(map_[0, 0], map_[1, 0]) < 1.7 else 0


def suspects(found: list[Features], first: list[int], second: list[int]) -> dict[int, tuple[int, int]]:
    """For every row of `first` with a near-copy among `second`: the best one's row and its inliers."""

    def look(row: int) -> tuple[int, int]:
        return max(((inliers(found[row], found[other]), other) for other in second), default=(0, -1))

    cv2.setNumThreads(1)
    # The products are small: one thread each, or the threads of one stand in the way of the others.
    with threadpool_limits(1), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        best = list(track(pool.map(look, first), len(first), "matching local features"))
    return {row: (other, count) for row, (count, other) in zip(first, best, strict=True) if count >= INLIERS}


def group_and_split(root: Path, seed: int) -> tuple[list[Sample], list[Sample]]:
    """The pictures below `root` in a group split and in a random split; the folder above counts for nothing."""
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.suffix != ".png")
    files = files or sorted(root.rglob("*.png"))
    images = np.stack([cv2.resize(read(file), (128, 128), interpolation=cv2.INTER_AREA) for file in files])[..., None]
    groups = find_copies(images)
    samples = [Sample(image=file.relative_to(root).as_posix()) for file in files]
    samples = [replace(sample, group=int(group)) for sample, group in zip(samples, groups, strict=True)]
    settings = DataSettings(source="folder", root=str(root), split_seed=seed)
    shuffled = split_samples(samples, settings.model_copy(update={"split": "random"}))
    sizes = np.bincount(groups)
    print(f"{len(files)} pictures: {(sizes > 1).sum()} groups of two and more, {(sizes == 6).sum()} of exactly six")
    exposures = [re.match(r"exp\d", file.name) for file in files]
    if all(exposures):  # Magnetic Tile: the names tell the exposure; the search never sees them
        marks = np.array([found.group() for found in exposures if found])
        members = [marks[groups == group] for group in np.flatnonzero(sizes > 1)]
        pure = np.mean([len(set(each)) == len(each) for each in members])
        print(f"{pure:.1%} of the groups of two and more have pairwise different exposures")
    print(f"by the groups, a random split of these shares leaks {leak_share(shuffled):.1%} of its test pictures")
    return split_samples(samples, settings), shuffled


def report(samples: list[Sample], root: Path, sheet: Path | None) -> None:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = list(pool.map(lambda sample: features(read(root / sample.image)), samples))
    rows = {
        name: [row for row, sample in enumerate(samples) if sample.split == name] for name in ("train", "val", "test")
    }
    for name in ("train", "val"):
        hits = suspects(found, rows["test"], rows[name])
        share = len(hits) / max(len(rows["test"]), 1)
        print(f"{len(hits)} of {len(rows['test'])} test pictures ({share:.2%}) have a near-copy in {name}")
        for row, (other, count) in sorted(hits.items(), key=lambda item: item[1][1])[:20]:
            print(f"  {samples[row].image}  {samples[other].image}  {count} inliers")
        if sheet and name == "train" and hits:
            show(samples, root, list(hits.items())[:12], sheet)


def show(samples: list[Sample], root: Path, hits: list[tuple[int, tuple[int, int]]], sheet: Path) -> None:
    pairs = [[cv2.resize(read(root / samples[r].image), (256, 256)) for r in (row, other)] for row, (other, _) in hits]
    cv2.imwrite(str(sheet), np.vstack([np.hstack(pair) for pair in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", nargs="?", type=Path, help="the prepare folder of a run")
    parser.add_argument("root", type=Path, help="the folder with the raw pictures")
    parser.add_argument("--pictures", action="store_true", help="make groups and split here")
    parser.add_argument("--random", action="store_true", help="check a random split instead")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--sheet", type=Path, help="where to draw the suspects")
    asked = parser.parse_args()
    if asked.pictures:
        by_group, shuffled = group_and_split(asked.root, asked.seed)
        samples = shuffled if asked.random else by_group
    elif asked.prepared:
        samples = read_samples(asked.prepared / "samples.csv")
    else:
        parser.error("give RUN/prepare and ROOT, or --pictures ROOT")
    say(f"checking {len(samples)} pictures")
    report(samples, asked.root, asked.sheet)


if __name__ == "__main__":
    main()
