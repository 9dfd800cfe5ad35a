"""One folder per class, optionally a folder of masks: the plainest way to one's own pictures.

`good/`, `scratch/`, `spot/` ... and, if there are masks, `masks/<class>/<stem>.png` or `masks/<stem>.png`. Case does
not count in the names of the folders of good parts and of masks.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ssl_defect.config import Settings
from ssl_defect.data.records import GOOD, Sample
from ssl_defect.data.sources.listing import folders_in, images_in, listed, relative, require_folder, say_unlabelled
from ssl_defect.data.sources.mask_folder import Masks, find_masks, refuse_masks_as_class
from ssl_defect.data.sources.walking import EXTENSIONS, Passed, say_once
from ssl_defect.errors import UserError


class Options(Settings):
    """data.options of the source `folder`."""

    good: list[str] = Field(
        ["good", "ok", "normal", "free"], min_length=1, description="Folder names of good parts; case does not count."
    )
    masks: str = Field(
        "",
        description="Folder of the masks in the root; `masks`, `mask`, `ground_truth` are found; case does not count.",
    )


def scan(root: Path, options: Options) -> list[Sample]:
    """List the pictures of every class, sub-folders included, sorted by path; nothing is decoded.

    Raises:
        UserError: missing or empty folder, no class folders, no good class, a folder of masks that is none or looks
            like a class, masks of which none has a picture, or a mask that two pictures claim.
    """
    home, spare = find_masks(require_folder(root), options.masks)
    passed = Passed()
    folders = [path for path in folders_in(root, passed) if path not in (home, *spare)]
    good = {name.lower() for name in options.good}
    _check_classes(root, folders, options)
    pictures = {path: _pictures(path, home, passed) for path in folders}
    masks = Masks(home, [path.name for path in folders], passed) if home else None
    loose = images_in(root, passed=passed)
    passed.say(root)
    refuse_masks_as_class(root, pictures, good)
    samples = [sample for path in folders for sample in _samples(root, path, pictures[path], masks, good)]
    if not samples:
        raise UserError(f"data.root: {root} holds no pictures ({', '.join(EXTENSIONS)}) in its class folders")
    bare = [path.name for path in folders if not pictures[path]]
    if bare:
        say_once(root, f"{root}: no pictures in {listed(bare)}, so no class of that name")
    _check_claims(samples)
    if masks:
        masks.check(root)
    say_unlabelled(loose, root, "in no class folder and so without a label")
    return sorted(samples, key=lambda sample: sample.image)


def _check_classes(root: Path, folders: list[Path], options: Options) -> None:
    good = {name.lower() for name in options.good}
    if not folders:
        raise UserError(f"data.root: {root} has no class folders; put the pictures into good/ and a folder per defect")
    if not any(path.name.lower() in good for path in folders):
        hint = "; train/ and test/ belong to the source `mvtec`" if (root / "test").is_dir() else ""
        raise UserError(
            f"data.root: none of the class folders {listed(path.name for path in folders)} is named "
            f"{listed(options.good)}; name the good one with data.options.good{hint}"
        )


def _pictures(folder: Path, home: Path | None, passed: Passed) -> list[Path]:
    """Pictures of a class; without masks, where the folder of these is named within it."""
    found = images_in(folder, deep=True, passed=passed)
    if home is None or folder not in home.parents:
        return found
    return [path for path in found if home not in path.parents]


def _samples(root: Path, folder: Path, pictures: list[Path], masks: Masks | None, good: set[str]) -> list[Sample]:
    label = 0 if folder.name.lower() in good else 1
    found = []
    for path in pictures:
        inner = path.parent.relative_to(folder).parts
        mask = masks.of(folder.name, inner, path.stem) if masks else None
        found.append(
            Sample(
                image=relative(path, root),
                mask=relative(mask, root),
                label=label,
                defect=folder.name if label else GOOD,
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
