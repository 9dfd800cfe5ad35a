"""Sets to learn good parts alone from: folders of links to a prepared set's pictures, in the layout of MVTec AD.

`data: {source: mvtec, protocol: official}` reads them. What is set aside in the prepared set is in none of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ssl_defect.artifacts import digest, read_json, write_json
from ssl_defect.data.records import GOOD, Sample

MARK = "made.json"
Places = dict[str, str]  # link -> picture or mask in the set's own folder, both relative


def held_out_good(samples: Sequence[Sample], share: float = 0.8, by: str = "image", seed: int = 0) -> Places:
    """So much of the good for training, the rest of it and everything defective for test.

    Args:
        by: `image`, as the published protocol of Magnetic Tile draws them, or `group`: near-copies of a test image
            are not trained on. Groups with good and defective images are then all for test.
    """
    wanted = int(share * sum(sample.label == 0 for sample in samples))
    parts: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        alone = by == "image" or sample.group < 0
        parts[sample.image if alone else f"group {sample.group}"].append(sample)
    pure = [part for part in parts.values() if not any(sample.label for sample in part)]
    chosen: list[Sample] = []
    for part in sorted(pure, key=lambda part: _hash(seed, min(sample.image for sample in part))):
        if len(chosen) + len(part) <= wanted:
            chosen += part
    trained = {sample.image for sample in chosen}
    return _train(chosen) | _test(sample for sample in samples if sample.image not in trained)


def with_defects(samples: Sequence[Sample], share: float, seed: int = 0) -> Places:
    """The good of `train` and `val` for training, and among them defective ones of `train`; `test` as it is.

    Args:
        samples: with their splits; no near-copy of a test image is in the others.
        share: of the training images that are in truth defective. A near-copy group gives its second image when all
            have given one, so that many different defects are missed and not one of them many times.
    """
    good = [sample for sample in samples if sample.split != "test" and not sample.label]
    bad = [sample for sample in samples if sample.split == "train" and sample.label]
    turns: list[tuple[int, bytes, Sample]] = []
    seen: dict[int, int] = defaultdict(int)
    for sample in sorted(bad, key=lambda sample: _hash(seed, sample.image)):
        turns.append((seen[sample.group], _hash(seed, sample.image), sample))
        seen[sample.group] += sample.group >= 0
    count = round(len(good) * share / (1 - share))
    missed = [sample for _, _, sample in sorted(turns, key=lambda turn: turn[:2])][:count]
    return _train(good + missed) | _test(sample for sample in samples if sample.split == "test")


def link(places: Places, root: Path, out: Path) -> Path:
    """The folder of links, made anew where other pictures are wanted; copies where the system has no links."""
    identity = digest([str(root.resolve()), sorted(places.items())])
    if (out / MARK).exists() and read_json(out / MARK) == identity:
        return out
    shutil.rmtree(out, ignore_errors=True)
    for place, picture in places.items():
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink((root / picture).resolve(), out / place)
        except OSError:
            shutil.copyfile(root / picture, out / place)
    write_json(out / MARK, identity)
    return out


def _train(samples: Iterable[Sample]) -> Places:
    return {f"train/good/{name_of(sample)}": sample.image for sample in samples}


def _test(samples: Iterable[Sample]) -> Places:
    found = {}
    for sample in samples:
        found[f"test/{sample.defect if sample.label else GOOD}/{name_of(sample)}"] = sample.image
        if sample.label and sample.mask:
            mask = f"{Path(name_of(sample)).stem}_mask{Path(sample.mask).suffix}"
            found[f"ground_truth/{sample.defect}/{mask}"] = sample.mask
    return found


def name_of(sample: Sample) -> str:
    return sample.image.replace("/", "__")


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
