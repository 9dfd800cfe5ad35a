"""One folder per class, optionally a folder of masks: the plainest way to one's own pictures.

`good/`, `scratch/`, `spot/` ... and, if there are masks, `masks/<class>/<stem>.png` or `masks/<stem>.png`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ssl_defect.config import Settings
from ssl_defect.data.records import GOOD, Sample
from ssl_defect.data.sources.listing import (
    folders_in,
    images_in,
    listed,
    masks_by_stem,
    relative,
    require_folder,
    say_unlabelled,
)
from ssl_defect.errors import UserError

MASK_FOLDERS = ("masks", "mask", "ground_truth")


class Options(Settings):
    """data.options of the source `folder`."""

    good: list[str] = Field(
        ["good", "ok", "normal", "free"], min_length=1, description="Folder names of good parts; case does not count."
    )
    masks: str = Field("", description="Folder of the masks in the root; `masks`, `mask`, `ground_truth` are found.")


def scan(root: Path, options: Options) -> list[Sample]:
    """List the pictures of every class, sub-folders included, sorted by path; nothing is decoded.

    Raises:
        UserError: missing or empty folder, no class folders, no good class, or a mask that two pictures claim.
    """
    masks = _mask_folder(require_folder(root), options.masks)
    folders = [path for path in folders_in(root) if path != masks]
    good = {name.lower() for name in options.good}
    if not folders:
        raise UserError(f"data.root: {root} has no class folders; put the pictures into good/ and a folder per defect")
    if not any(path.name.lower() in good for path in folders):
        hint = "; train/ and test/ belong to the source `mvtec`" if (root / "test").is_dir() else ""
        raise UserError(
            f"data.root: none of the class folders {listed(path.name for path in folders)} is named "
            f"{listed(options.good)}; name the good one with data.options.good{hint}"
        )
    samples = [sample for path in folders for sample in _samples(root, path, masks, path.name.lower() in good)]
    if not samples:
        raise UserError(f"data.root: {root} holds no pictures (.png, .jpg, .bmp, .tif, .webp) in its class folders")
    _check_claims(samples)
    say_unlabelled(images_in(root), root, "in no class folder and so without a label")
    return sorted(samples, key=lambda sample: sample.image)


def _mask_folder(root: Path, name: str) -> Path | None:
    if name:
        if not (root / name).is_dir():
            raise UserError(f"data.options.masks: {root / name} does not exist; name a folder within the root")
        return root / name
    return next((root / known for known in MASK_FOLDERS if (root / known).is_dir()), None)


def _samples(root: Path, folder: Path, masks: Path | None, good: bool) -> list[Sample]:
    tables: dict[Path, dict[str, Path]] = {}
    found = []
    for path in images_in(folder, deep=True):
        inner = path.parent.relative_to(folder)
        mask = None
        if masks is not None:
            for place in (masks / folder.name / inner, masks / inner):
                table = tables.setdefault(place, masks_by_stem(place))
                mask = mask or table.get(path.stem)
        found.append(
            Sample(
                image=relative(path, root),
                mask=relative(mask, root),
                label=0 if good else 1,
                defect=GOOD if good else folder.name,
            )
        )
    return found


def _check_claims(samples: list[Sample]) -> None:
    claimed: dict[str, str] = {}
    for sample in samples:
        if sample.mask and sample.mask in claimed:
            raise UserError(
                f"{sample.mask}: a mask of both {claimed[sample.mask]} and {sample.image}; "
                "put the masks into one folder per class"
            )
        claimed[sample.mask] = sample.image
