"""What there is to know about a prepared set: counts, what was set aside, near-copies, what a leak would be worth."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from ssl_defect.config import DataSettings
from ssl_defect.data.cache import Cached
from ssl_defect.data.masks import RULE
from ssl_defect.data.records import GOOD, Sample
from ssl_defect.data.splits import leak_share, split_digest, split_samples
from ssl_defect.errors import UserError

SPLITS = ("train", "val", "test")
RANDOM_SPLITS = 10  # random splits that the leak is averaged over
EXAMPLES, EXAMPLE_ROWS = 8, 6


def audit(
    found: Sequence[Sample], cached: Cached, samples: list[Sample], settings: DataSettings, seconds: float
) -> Any:
    """The content of `audit.json`.

    Args:
        found: every sample that the source listed.
        cached: what decoding made of them.
        samples: the usable ones with group and split, row by row as cached.
        seconds: time that the search for near-copies took.
    """
    return {
        "root": settings.root,
        "source": settings.source,
        "protocol": settings.protocol,
        "split": settings.split,
        "split_seed": settings.split_seed,
        "image_size": settings.image_size,
        "channels": cached.channels,
        "mask_rule": RULE,
        "counts": class_counts(found),
        "usable": len(samples),
        "set_aside": cached.set_aside,
        "empty_masks": cached.empty_masks,
        "odd": cached.odd,
        "sizes": raw_sizes(samples),
        "copies": {**copy_groups(samples), "seconds": round(seconds, 2)},
        "leak": {"random_split_share": random_leak(samples, settings), "this_split_share": leak_share(samples)},
        "splits": {split: class_counts([s for s in samples if s.split == split]) for split in SPLITS},
        "split_digest": split_digest(samples),
    }


def class_counts(samples: Sequence[Sample]) -> dict[str, int]:
    """Images per class: `good` first, then the defects by name."""
    counts = Counter(sample.defect for sample in samples)
    return {name: counts[name] for name in sorted(counts, key=lambda name: (name != GOOD, name))}


def raw_sizes(samples: Sequence[Sample]) -> dict[str, Any]:
    """Smallest and largest raw picture by area, as [width, height], and the number of distinct sizes."""
    sizes = sorted({(s.width, s.height) for s in samples}, key=lambda size: (size[0] * size[1], size))
    return {"min": list(sizes[0]), "max": list(sizes[-1]), "distinct": len(sizes)}


def copy_groups(samples: Sequence[Sample]) -> dict[str, Any]:
    """Numbers, examples and contradictions of the groups of two and more near-copies."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        rows[sample.group].append(row)
    groups = {group: members for group, members in rows.items() if len(members) > 1}
    largest_first = sorted(groups.values(), key=lambda members: (-len(members), members))
    step = max(1, len(largest_first) // EXAMPLES)
    sizes = Counter(len(members) for members in groups.values())
    return {
        "groups": len(groups),
        "images": sum(len(members) for members in groups.values()),
        "largest": max(sizes, default=1),
        "sizes": {str(size): sizes[size] for size in sorted(sizes)},
        "examples": [members[:EXAMPLE_ROWS] for members in largest_first[::step][:EXAMPLES]],
        "mixed_labels": [
            {
                "group": group,
                "images": [samples[row].image for row in members],
                "defects": [samples[row].defect for row in members],
            }
            for group, members in sorted(groups.items())
            if len({samples[row].defect for row in members}) > 1
        ],
    }


def random_leak(samples: Sequence[Sample], settings: DataSettings) -> float | None:
    """Share of the test images with a near-copy in train when the same images are split at random, without groups.

    The shares are those of the settings; the mean of several seeds. None where a class is too small for such a split.
    """
    random = settings.model_copy(update={"protocol": "supervised", "split": "random"})
    try:
        splits = [split_samples(samples, random.model_copy(update={"split_seed": s})) for s in range(RANDOM_SPLITS)]
    except UserError:
        return None
    return sum(leak_share(split) for split in splits) / RANDOM_SPLITS
