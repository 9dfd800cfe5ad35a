"""Train, validation and test: by group, stratified by class, fixed by seed and file names, never by order."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ssl_defect.artifacts import digest
from ssl_defect.config import DataSettings
from ssl_defect.data.records import Sample
from ssl_defect.errors import UserError

TRAIN, VAL, TEST = "train", "val", "test"


def split_samples(samples: Sequence[Sample], settings: DataSettings) -> list[Sample]:
    """The samples, in their order, with `split` filled.

    `supervised` divides everything anew. `official` keeps the published test images as test and takes `val_share` of
    the published train images for validation, so that a set with only good parts to train on validates on good parts.
    Near-copies (equal `group`; -1 stands for a group of its own) never part, except across a published split, and
    except where `split: random` asks for it. A class comes as close to its shares as whole groups allow; a group with
    several classes counts for each and is placed with the rarest. With `folds` the test split is one of K equal shares
    of the images: over `fold` 0 to K - 1 every image is tested once. Validation is `val_share` of all images, taken
    from the other folds.

    Raises:
        UserError: a class has fewer groups than splits or folds, or `official` was asked of a set without a published
            split.
    """
    if settings.protocol == "official":
        return _official(samples, settings)
    if settings.folds:
        return _fold(samples, settings)
    shares = {TRAIN: 1 - settings.val_share - settings.test_share, VAL: settings.val_share, TEST: settings.test_share}
    parts = _parts(samples, range(len(samples)), settings)
    _refuse_small_classes(parts, len(shares), settings)
    chosen = _divide(parts, shares, settings.split_seed)
    _refuse_empty_cells(samples, chosen, list(shares), settings)
    return [replace(sample, split=chosen[row]) for row, sample in enumerate(samples)]


def _fold(samples: Sequence[Sample], settings: DataSettings) -> list[Sample]:
    parts, folds = _parts(samples, range(len(samples)), settings), [str(fold) for fold in range(settings.folds)]
    _refuse_small_folds(parts, settings)
    # the same divider as for every other split: whole parts, class by class, independent of the samples' order
    tested = _divide(parts, dict.fromkeys(folds, 1 / settings.folds), settings.split_seed)
    test = {row for row, fold in tested.items() if fold == folds[settings.fold]}
    rest = [part for part in parts if part.rows[0] not in test]
    val = settings.val_share / (1 - 1 / settings.folds)
    chosen = _divide(rest, {TRAIN: 1 - val, VAL: val}, settings.split_seed) | dict.fromkeys(test, TEST)
    _refuse_empty_cells(samples, chosen, [TRAIN, VAL, TEST], settings)
    return [replace(sample, split=chosen[row]) for row, sample in enumerate(samples)]


def _official(samples: Sequence[Sample], settings: DataSettings) -> list[Sample]:
    unknown = next((sample.image for sample in samples if sample.published_split not in (TRAIN, TEST)), None)
    if unknown is not None:
        raise UserError(
            f"data.protocol: 'official' needs a set that comes with a split, and {unknown} has none; use 'supervised'"
        )
    chosen = {row: TEST for row, sample in enumerate(samples) if sample.published_split == TEST}
    parts = _parts(samples, [row for row in range(len(samples)) if row not in chosen], settings)
    shares = {TRAIN: 1 - settings.val_share, VAL: settings.val_share}
    chosen |= _divide(parts, shares, settings.split_seed)
    found = Counter(chosen.values())
    for split in (TRAIN, VAL, TEST):
        if not found[split]:
            raise UserError(
                f"data.protocol: 'official' leaves no image for {split} ({len(parts)} groups in the published train "
                "part); use 'supervised'"
            )
    return [replace(sample, split=chosen[row]) for row, sample in enumerate(samples)]


@dataclass(frozen=True)
class _Part:
    """What must stay together: a near-copy group, or one image under a random split.

    `key` is the least of its file names: unlike a group's number it does not depend on the order of the samples.
    """

    key: str
    rows: tuple[int, ...]
    classes: Counter[str]


def _parts(samples: Sequence[Sample], rows: Sequence[int], settings: DataSettings) -> list[_Part]:
    together: dict[Hashable, list[int]] = defaultdict(list)
    for row in rows:
        alone = settings.split == "random" or samples[row].group < 0
        together[("row", row) if alone else ("group", samples[row].group)].append(row)
    return [
        _Part(
            key=min(samples[row].image for row in members),
            rows=tuple(members),
            classes=Counter(samples[row].defect for row in members),
        )
        for members in together.values()
    ]


def _divide(parts: list[_Part], shares: dict[str, float], seed: int) -> dict[int, str]:
    """Split of every row: class after class from the rarest, large parts first, each to where it costs least.

    The cost is the chi-square distance between the images a split has of a class and those it should have.
    """
    total = sum((part.classes for part in parts), Counter[str]())
    rarity = sorted(total, key=lambda name: (total[name], name))
    target = {(split, name): share * total[name] for split, share in shares.items() for name in total}
    have: Counter[tuple[str, str]] = Counter()
    chosen: dict[int, str] = {}

    def cost(split: str, part: _Part) -> float:
        return sum(
            n * (2 * (have[split, name] - target[split, name]) + n) / target[split, name]
            for name, n in part.classes.items()
        )

    for name in rarity:
        waiting = [part for part in parts if part.rows[0] not in chosen and name in part.classes]
        waiting.sort(key=lambda part: (-part.classes[name], _hash(seed, part.key), part.key))
        for done, part in enumerate(waiting):
            empty = [split for split in shares if not have[split, name]]
            # The last parts go to the splits that would otherwise hold nothing of this class.
            allowed = empty if empty and len(waiting) - done <= len(empty) else list(shares)
            split = min(allowed, key=lambda split: cost(split, part))
            have.update({(split, other): n for other, n in part.classes.items()})
            chosen.update(dict.fromkeys(part.rows, split))
    return chosen


def _refuse_small_folds(parts: list[_Part], settings: DataSettings) -> None:
    unit = "images" if settings.split == "random" else "near-copy groups"
    need = max(settings.folds, 3)  # the folds that are not tested hold train and val
    count = Counter(name for part in parts for name in part.classes)
    name = min(count, key=lambda name: (count[name], name))
    if count[name] < need:
        most = f"at most {count[name]} folds" if count[name] >= 3 else "no folds"
        raise UserError(
            f"data.folds: {settings.folds} folds need at least {need} {unit} of each class and '{name}' has "
            f"{count[name]}; take {most}, add images of it or leave the class out"
        )


def _refuse_small_classes(parts: list[_Part], need: int, settings: DataSettings) -> None:
    unit = "images" if settings.split == "random" else "near-copy groups"
    count = Counter(name for part in parts for name in part.classes)
    for name in sorted(count):
        if count[name] < need:
            raise UserError(
                f"data: class '{name}' has {count[name]} {unit} and needs at least {need}, one for each of train, val "
                "and test; add images of it or leave the class out"
            )


def _refuse_empty_cells(
    samples: Sequence[Sample], chosen: dict[int, str], splits: list[str], settings: DataSettings
) -> None:
    found = Counter((samples[row].defect, split) for row, split in chosen.items())
    for name in sorted({sample.defect for sample in samples}):
        for split in splits:
            if not found[name, split]:
                raise UserError(
                    f"data: class '{name}' ({sum(found[name, s] for s in splits)} images) shares so many near-copy "
                    f"groups with rarer classes that none is left for {split}; add images or change data.split_seed"
                )


def leak_share(samples: Sequence[Sample]) -> float:
    """Share in [0, 1] of the test images that have a near-copy (equal group) in train; 0 without test images."""
    trained = {sample.group for sample in samples if sample.split == TRAIN and sample.group >= 0}
    tested = [sample.group in trained for sample in samples if sample.split == TEST]
    return sum(tested) / len(tested) if tested else 0.0


def label_budget(
    samples: Sequence[Sample], rows: Sequence[int] | NDArray[np.int64], k: int | None, seed: int
) -> NDArray[np.int64]:
    """Rows, ascending, of the labelled training images: `k` per defect class (`good` included), all for `None`.

    Budgets are nested: the rows for 5 are among the rows for 10. The order is a hash of seed and file name, and every
    near-copy group of a class gives its first image before any gives a second, so that k labels show k different
    parts if there are as many. A class with fewer than `k` images gives all it has.
    """
    by_class: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        by_class[samples[row].defect].append(int(row))
    taken: list[int] = []
    for members in by_class.values():
        taken += _parts_first(samples, members, seed)[:k]
    return np.array(sorted(taken), dtype=np.int64)


def _parts_first(samples: Sequence[Sample], rows: list[int], seed: int) -> list[int]:
    seen: Counter[Hashable] = Counter()
    turns: list[tuple[int, int]] = []
    for place, row in enumerate(sorted(rows, key=lambda row: (_hash(seed, samples[row].image), samples[row].image))):
        group = samples[row].group
        part: Hashable = group if group >= 0 else ("row", row)
        turns.append((seen[part] * len(rows) + place, row))
        seen[part] += 1
    return [row for _, row in sorted(turns)]


def split_digest(samples: Sequence[Sample]) -> str:
    """Digest (16 hex digits) of which image is in which split, whatever the order of the samples."""
    return digest(sorted((sample.image, sample.split) for sample in samples))


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
