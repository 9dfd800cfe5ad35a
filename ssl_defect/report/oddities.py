"""Pictures of what the audit found: near-copies, leaks, empty masks, unusual formats and sizes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from ssl_defect.data.records import Sample
from ssl_defect.report.numbers import counted
from ssl_defect.report.pictures import Shot, aspect_of, data_uri
from ssl_defect.report.records import RunRecords

STRIPS = 8  # groups, and leaks
MOST = 8  # pictures of one kind
SIDE = 128  # pixels


def copies(records: RunRecords) -> list[dict[str, Any]]:
    """Examples of the groups of near-copies that the audit picked."""
    sizes = Counter(sample.group for sample in records.store.samples)
    examples = (records.audit.get("copies") or {}).get("examples") or []
    return [_strip(records, rows, sizes) for rows in examples[:STRIPS]]


def leaks(records: RunRecords) -> list[dict[str, Any]]:
    """Test images with a near-copy in training, each beside one of these, one pair of a group."""
    if not (records.audit.get("leak") or {}).get("this_split_share"):
        return []
    sides: dict[int, dict[str, int]] = defaultdict(dict)
    sizes: Counter[int] = Counter()
    for row, sample in enumerate(records.store.samples):
        sides[sample.group].setdefault(sample.split, row)
        sizes[sample.group] += 1
    pairs = [[rows["test"], rows["train"]] for _, rows in sorted(sides.items()) if {"test", "train"} <= rows.keys()]
    return [_strip(records, pair, sizes) for pair in pairs[:STRIPS]]


def _strip(records: RunRecords, rows: list[int], sizes: Counter[int]) -> dict[str, Any]:
    samples = [records.store.samples[row] for row in rows]
    splits = sorted({sample.split for sample in samples if sample.split})
    group = samples[0].group
    shots = [_shot(records, row, sample.defect) for row, sample in zip(rows, samples, strict=True)]
    return {"group": group, "size": counted(sizes[group], "image"), "split": ", ".join(splits), "shots": shots}


def empty_masks(records: RunRecords) -> list[Shot]:
    """Defective pictures with an empty mask, as far as they were kept."""
    names = records.audit.get("empty_masks") or []
    return _named(records, dict.fromkeys(names, "empty mask"))


def odd(records: RunRecords) -> list[Shot]:
    """Pictures in an unusual format, with what is unusual."""
    return _named(records, {item["image"]: item["what"] for item in records.audit.get("odd") or []})


def sizes(records: RunRecords) -> list[Shot]:
    """Smallest, largest, narrowest and widest raw picture, where there are several sizes."""
    samples = records.store.samples
    if len({(one.width, one.height) for one in samples}) < 2:
        return []
    rows = range(len(samples))
    area, shape = _measures(samples)
    said: dict[int, list[str]] = defaultdict(list)
    for name, row in (
        ("smallest", min(rows, key=area.__getitem__)),
        ("largest", max(rows, key=area.__getitem__)),
        ("narrowest", min(rows, key=shape.__getitem__)),
        ("widest", max(rows, key=shape.__getitem__)),
    ):
        said[row].append(name)
    if len(set(shape)) == 1:  # all of one shape: none is narrow
        said = {row: [name for name in names if name in {"smallest", "largest"}] for row, names in said.items()}
    return [
        _shot(records, row, f"{', '.join(names)}: {samples[row].width} x {samples[row].height}")
        for row, names in said.items()
        if names
    ]


def _measures(samples: list[Sample]) -> tuple[list[int], list[float]]:
    return [one.width * one.height for one in samples], [one.width / max(1, one.height) for one in samples]


def _named(records: RunRecords, said: dict[str, str]) -> list[Shot]:
    rows = [row for row, sample in enumerate(records.store.samples) if sample.image in said][:MOST]
    return [_shot(records, row, said[records.store.samples[row].image]) for row in rows]


def _shot(records: RunRecords, row: int, title: str) -> Shot:
    sample = records.store.samples[row]
    return Shot(
        uri=data_uri(records.store.images[row], side=SIDE, quality=75),
        side=SIDE,
        aspect=aspect_of(sample.width, sample.height),
        alt=f"{sample.image} ({sample.defect}): {title}" if title != sample.defect else f"{sample.image} ({title})",
        title=title,
        file=sample.image,
    )
