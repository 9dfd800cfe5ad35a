"""The MVTec AD layout: `train/good`, `test/<defect>`, `ground_truth/<defect>/<stem>_mask.png`.

Bergmann, Fauser, Sattlegger, Steger: MVTec AD, CVPR 2019. Reads as well VisA converted to this layout (masks
without `_mask`), BTAD (`ok` and `ko` for good and bad, masks as `.png` or `.bmp`) and whatever else keeps to it.
The set comes with a split, which the protocol `official` keeps.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ssl_defect import console
from ssl_defect.config import Settings
from ssl_defect.data.records import GOOD, Sample
from ssl_defect.data.sources.listing import folders_in, images_in, listed, masks_by_stem, relative, require_folder
from ssl_defect.errors import UserError, nearest

LAYOUT = "train/good, test/<defect> and ground_truth/<defect>"


class Options(Settings):
    """data.options of the source `mvtec`."""

    category: str = Field("", description="Category to read where the root holds several, such as `screw`.")
    good: list[str] = Field(["good", "ok"], min_length=1, description="Folder names of good parts.")


def scan(root: Path, options: Options) -> list[Sample]:
    """List the pictures of one category, sorted by path; nothing is decoded.

    Raises:
        UserError: missing or empty folder, another layout, a choice of categories, or folders that do not match.
    """
    home = _category(require_folder(root), options.category)
    train, test = folders_in(home / "train"), folders_in(home / "test")
    _check_folders(home, options, train, test)
    samples = [sample for folder in train for sample in _samples(root, home, folder, options)]
    samples += [sample for folder in test for sample in _samples(root, home, folder, options)]
    for split in ("train", "test"):
        if not any(sample.published_split == split for sample in samples):
            raise UserError(f"{home / split}: holds no pictures; the layout is {LAYOUT}")
    return sorted(samples, key=lambda sample: sample.image)


def _category(root: Path, category: str) -> Path:
    if _is_category(root):
        if category and category != root.name:
            raise UserError(f"data.options.category: {root} is itself a category; leave `category` out")
        return root
    found = [path.name for path in folders_in(root) if _is_category(path)]
    if not found:
        raise UserError(f"data.root: {root} is not in the MVTec layout; it needs {LAYOUT}")
    if category and category not in found:
        raise UserError(
            f"data.options.category: no '{category}' in {root}; there are {listed(found)}{nearest(category, found)}"
        )
    if not category and len(found) > 1:
        raise UserError(
            f"data.root: {root} holds {len(found)} categories; choose one with data.options.category: {listed(found)}"
        )
    return root / (category or found[0])


def _is_category(folder: Path) -> bool:
    return (folder / "train").is_dir() and (folder / "test").is_dir()


def _check_folders(home: Path, options: Options, train: list[Path], test: list[Path]) -> None:
    strange = [folder.name for folder in train if folder.name not in options.good]
    if strange:
        raise UserError(
            f"{home / 'train'}: unknown folder '{strange[0]}'; only good parts belong into train, in folders named "
            f"{listed(options.good)} (data.options.good names others)"
        )
    masked = {folder.name for folder in folders_in(home / "ground_truth")}
    tested = {folder.name for folder in test}
    orphans = sorted(masked - tested - set(options.good))
    if orphans:
        raise UserError(
            f"{home / 'ground_truth' / orphans[0]}: masks of an unknown defect, there is no test/{orphans[0]}; "
            f"test holds {listed(sorted(tested))}"
        )
    bare = sorted(tested - masked - set(options.good))
    if bare:
        console.say(f"{home / 'test'}: no masks in ground_truth for {listed(bare)}")


def _samples(root: Path, home: Path, folder: Path, options: Options) -> list[Sample]:
    good, split = folder.name in options.good, folder.parent.name
    # Masks are published for test only; the same stem in train is another picture.
    masks = masks_by_stem(home / "ground_truth" / folder.name) if split == "test" else {}
    return [
        Sample(
            image=relative(path, root),
            mask=relative(masks.get(path.stem), root),
            label=0 if good else 1,
            defect=GOOD if good else folder.name,
            published_split=split,
        )
        for path in images_in(folder)
    ]
