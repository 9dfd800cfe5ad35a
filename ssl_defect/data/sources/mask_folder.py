"""The folder of masks beside class folders: which it is, which mask is of which picture, and what is of none.

Case does not count in the names of folders, since it differs between systems; an exact name goes first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ssl_defect.data.sources.listing import by_stem, folders_in, images_in, listed, relative
from ssl_defect.data.sources.walking import Passed, say_once
from ssl_defect.errors import UserError

MASK_FOLDERS = ("masks", "mask", "ground_truth")

Place = tuple[str, ...]  # the parts of a path within the folder of masks


def find_masks(root: Path, name: str) -> tuple[Path | None, list[Path]]:
    """The folder of the masks: `name` within the root or, where that is empty, the one whose name is known.

    Returns:
        That folder, None where there is none; and folders of the root that are told from it, or from a known name, by
        case alone. These are left out with a word, since they are hardly classes.

    Raises:
        UserError: there is no folder of that name, or more than one fits.
    """
    home = _named(root, name) if name else None
    names = {home.name.lower()} if home else set(MASK_FOLDERS)
    alike = [path for path in folders_in(root, Passed()) if path.name.lower() in names]
    if home is None:
        fits = [path for path in alike if path.name in MASK_FOLDERS] or alike
        if len(fits) > 1:
            raise UserError(
                f"data.root: {root} holds {len(fits)} folders of masks: {listed(path.name for path in fits)}; keep one "
                "of them, or name it with data.options.masks, and others count as classes"
            )
        home = fits[0] if fits else None
    left = [path for path in alike if path != home] if home and home.parent == root else []
    if home and left:
        say_once(root, f"{root}: {listed(path.name for path in left)} left out: the masks are read from {home.name}")
    return home, left


def _named(root: Path, name: str) -> Path:
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or not parts:
        raise UserError(f"data.options.masks: '{name}' is not a folder within {root}; give its path from there")
    here = root
    for part in parts:
        there = [path for path in here.iterdir() if path.is_dir()]
        fits = [path for path in there if path.name == part] or [
            path for path in there if path.name.lower() == part.lower()
        ]
        if not fits:
            raise UserError(f"data.options.masks: {root / name} does not exist; name a folder within the root")
        if len(fits) > 1:
            raise UserError(
                f"data.options.masks: '{name}' may be {listed(sorted(path.name for path in fits))} in {here}; write it "
                "exactly as the folder is named"
            )
        here = fits[0]
    return here


def refuse_masks_as_class(root: Path, pictures: dict[Path, list[Path]], good: set[str]) -> None:
    """Stop at a folder without pictures of its own whose sub-folders are named after classes: it looks like masks.

    Args:
        pictures: the class folders, and the pictures in each.
        good: names of good parts, in lower case; such a folder holds no masks.

    Raises:
        UserError: there is one.
    """
    names = {folder.name.lower() for folder in pictures}
    for folder, inside in pictures.items():
        own = folder.name.lower()
        below = {path.name.lower() for path in folders_in(folder, Passed())} if inside else set()
        flat = any(path.parent == folder for path in inside)
        if below and own not in good and not flat and below <= names - {own}:
            raise UserError(
                f"data.root: {folder} is no class: its sub-folders ({listed(sorted(below))}) are named after other "
                "classes; if these are masks, name it masks/, the only folder of them; if pictures, move them into "
                "the folders of their classes"
            )


class Masks:
    """The mask files of a folder, by the place and the stem of their picture; it keeps account of those taken."""

    def __init__(self, home: Path, classes: Sequence[str], passed: Passed) -> None:
        """List the files; `passed` is told what is passed over, and `classes` are the names of the class folders."""
        self.home = home
        self.files = images_in(home, passed=passed)
        for folder in folders_in(home, passed):  # each walked by itself: links of two classes may lead to one folder
            self.files += images_in(folder, deep=True, passed=passed)
        self._classes = set(classes)
        self._taken: set[Path] = set()
        inside: dict[Path, list[Path]] = defaultdict(list)
        for path in self.files:
            inside[path.parent].append(path)
        self._tables = {folder.relative_to(home).parts: by_stem(paths) for folder, paths in inside.items()}
        self._spellings: dict[Place, list[Place]] = defaultdict(list)
        for place in self._tables:
            self._spellings[_lower(place)].append(place)

    def of(self, name: str, inner: Place, stem: str) -> Path | None:
        """The mask of the picture `stem` in the class folder `name`, in whose sub-folder `inner` it lies.

        Raises:
            UserError: it may lie in two folders whose names differ in case alone.
        """
        for wanted in ((name, *inner), inner):
            place = self._place(wanted)
            found = None if place is None else self._tables[place].get(stem)
            if found:
                self._taken.add(found)
                return found
        return None

    def _place(self, wanted: Place) -> Place | None:
        if wanted in self._tables:
            return wanted
        # `Scratch` beside the class `scratch` has masks of its own.
        fits = [place for place in self._spellings.get(_lower(wanted), []) if not self._of_another(place, wanted)]
        if len(fits) > 1:
            raise UserError(
                f"{self.home}: the masks of {'/'.join(wanted)} may lie in "
                f"{listed('/'.join(place) for place in sorted(fits))}; put them into one folder"
            )
        return fits[0] if fits else None

    def _of_another(self, place: Place, wanted: Place) -> bool:
        return place[0] != wanted[0] and place[0] in self._classes

    def check(self, root: Path) -> None:
        """Say how many files are the mask of no picture.

        Raises:
            UserError: that is all of them.
        """
        if not self.files:
            say_once(root, f"{self.home}: holds no masks, so the pictures have none")
            return
        left = sorted(set(self.files) - self._taken)
        if not left:
            return
        home, first = relative(self.home, root), relative(left[0], root)
        names = f"the mask of b.jpg is named b.png or b_mask.png and lies in {home}/<class>/ or {home}/"
        if len(left) == len(self.files):
            raise UserError(
                f"data.root: {root}: none of the {len(left)} mask files fits a picture, such as {first}; {names}; "
                "rename them, or name their folder with data.options.masks"
            )
        say_once(root, f"{root}: {len(left)} of {len(self.files)} mask files fit no picture, such as {first}; {names}")


def _lower(place: Place) -> Place:
    return tuple(part.lower() for part in place)
