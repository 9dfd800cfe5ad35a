"""The first stage: a raw folder to `samples.csv`, cached pictures and masks, splits and an audit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_defect import console
from ssl_defect.artifacts import digest, write_json
from ssl_defect.config import DataSettings, Recipe
from ssl_defect.data.audit import audit, class_counts
from ssl_defect.data.cache import THUMBNAILS, Cached, cache_images
from ssl_defect.data.contents import bytes_digests
from ssl_defect.data.copies import FAR, LARGE, search
from ssl_defect.data.records import Sample, write_samples
from ssl_defect.data.roots import scan_source
from ssl_defect.data.shortcuts import shortcuts
from ssl_defect.data.splits import split_samples
from ssl_defect.data.store import AUDIT, IMAGES, SAMPLES
from ssl_defect.errors import UserError

SHOWN = 3  # reasons that an error line names


def prepare(recipe: Recipe, out: Path) -> None:
    """Write the prepare folder of a run into `out`; files of an interrupted attempt are written anew.

    Raises:
        UserError: the raw folder, its pictures or its classes do not allow what the recipe asks for.
        OSError: the disk is full, or the machine is at fault in another way.
    """
    settings = recipe.data
    out.mkdir(parents=True, exist_ok=True)
    root, found = scan_source(recipe)
    console.say(f"{settings.source}: {len(found)} images ({_counts(found)})")
    _require_classes(found, settings)
    cached = cache_images(root, found, settings, out, recipe.compute.threads)
    _report_unusable(cached, len(found), settings)
    _require_classes(cached.samples, settings)
    start = time.monotonic()
    groups, look_alikes = _groups(len(cached.samples), out, settings)
    seconds = time.monotonic() - start
    grouped = [replace(sample, group=int(group)) for sample, group in zip(cached.samples, groups, strict=True)]
    samples = split_samples(grouped, settings)
    report = audit(found, cached, samples, settings, seconds)
    report["copies"] |= {"look_alikes": round(look_alikes, 3), "undecided": look_alikes >= LARGE}
    report["shortcuts"] = shortcuts(np.load(out / IMAGES, mmap_mode="r", allow_pickle=False), samples)
    write_samples(out / SAMPLES, samples)
    write_json(out / AUDIT, report)
    _say_result(report)


def inputs_digest(recipe: Recipe) -> str:
    """Digest (16 hex digits) of all that the source lists: paths, labels, and the bytes of pictures and masks.

    Raises:
        UserError: as the source does.
    """
    root, samples = scan_source(recipe)
    paths = [root / name for sample in samples for name in (sample.image, sample.mask) if name]
    return digest([[asdict(sample) for sample in samples], bytes_digests(paths, recipe.compute.threads)])


def _groups(count: int, out: Path, settings: DataSettings) -> tuple[npt.NDArray[np.int64], float]:
    """Group of every row, and how alike others are; the thumbnails, of no use after that, are removed."""
    thumbnails = out / THUMBNAILS
    groups, look_alikes = np.arange(count, dtype=np.int64), 0.0
    if settings.copies:
        groups, look_alikes = search(np.load(thumbnails, mmap_mode="r", allow_pickle=False))
    thumbnails.unlink()
    return groups, look_alikes


def _require_classes(samples: Sequence[Sample], settings: DataSettings) -> None:
    official = settings.protocol == "official"
    if official and not all(sample.published_split for sample in samples):
        raise UserError(
            f"data.protocol: the source '{settings.source}' comes without a published split, which `official` keeps; "
            "use protocol: supervised"
        )
    judged = [sample for sample in samples if sample.published_split == "test"] if official else samples
    for label, what in ((0, "good"), (1, "defective")):
        if not any(sample.label == label for sample in judged):
            where = "the published test images" if official else f"the usable images ({_counts(judged) or 'none'})"
            raise UserError(
                f"data.root: {settings.root}: no {what} part among {where}; good and defective parts are both needed"
            )


def _report_unusable(cached: Cached, total: int, settings: DataSettings) -> None:
    count = len(cached.set_aside)
    if not count:
        return
    reasons = Counter(entry["reason"] for entry in cached.set_aside)
    first = "; ".join(_example(cached, reason, n) for reason, n in reasons.most_common(SHOWN))
    more = f"; and {len(reasons) - SHOWN} more reasons" if len(reasons) > SHOWN else ""
    if count > settings.max_unusable * total:
        raise UserError(
            f"data.root: {settings.root}: {count} of {total} images are unusable, more than data.max_unusable "
            f"{settings.max_unusable:g} allows: {first}{more}"
        )
    console.say(f"set aside {count} of {total} images: {first}{more}")


def _example(cached: Cached, reason: str, count: int) -> str:
    image = next(entry["image"] for entry in cached.set_aside if entry["reason"] == reason)
    return f"{image!r}{f' and {count - 1} more' if count > 1 else ''}: {reason}"


def _counts(samples: Sequence[Sample]) -> str:
    return ", ".join(f"{name} {count}" for name, count in class_counts(samples).items())


def _say_result(report: dict[str, Any]) -> None:
    copies, leak = report["copies"], report["leak"]
    console.say(
        f"near-copies: {copies['images']} images in {copies['groups']} groups; share of test images with one in train: "
        f"{leak['this_split_share']:.1%} in this split"
        + ("" if leak["random_split_share"] is None else f", {leak['random_split_share']:.1%} in a random split")
    )
    if copies["undecided"]:
        console.say(
            "near-copies: nearly all pictures look alike: either every part looks the same, or there are more than "
            f"{FAR[0]} of each part, which pixels cannot tell; in the latter case keep fewer of each, or test on parts "
            "of their own (data.protocol: official)"
        )
    parts = [f"{split} {sum(counts.values())}" for split, counts in report["splits"].items()]
    console.say(f"split: {', '.join(parts)}")
