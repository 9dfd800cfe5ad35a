"""What every source shares: listing pictures and folders, and pairing pictures with masks. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ssl_defect.data.sources.walking import Passed, look, pictures_below, say_once, without_circles
from ssl_defect.errors import UserError

MASK = "_mask"  # may follow a picture's name in that of its mask, in any case


def require_folder(root: Path) -> Path:
    """`root` itself, if it is a folder with something in it.

    Raises:
        UserError: it is missing, a file, or empty.
    """
    if not root.exists():
        raise UserError(f"data.root: {root} does not exist; give the folder that holds the pictures")
    if not root.is_dir():
        raise UserError(f"data.root: {root} is a file; give the folder that holds the pictures")
    if not any(root.iterdir()):
        raise UserError(f"data.root: {root} is empty; give the folder that holds the pictures")
    return root


def folders_in(folder: Path, passed: Passed | None = None) -> list[Path]:
    """Visible sub-folders, by name, linked ones included; empty where `folder` is missing.

    Args:
        passed: is told what is passed over; without it, broken links and those that lead back are said at once.
    """
    if not folder.is_dir():
        return []
    met = Passed()
    inside = look(folder, met)
    found = inside.folders + without_circles(inside.links, folder, met)
    met.unread.clear()  # files are the business of `images_in`
    _hand_on(met, folder, passed)
    return sorted(found)


def images_in(folder: Path, deep: bool = False, passed: Passed | None = None) -> list[Path]:
    """Visible files with the name of a picture, by path; with `deep` those of all sub-folders too, also linked ones.

    Args:
        passed: is told what is passed over, to be said for several folders in one line; without it, it is said at once.
    """
    if not folder.is_dir():
        return []
    met = Passed()
    found = pictures_below(folder, deep, met)
    _hand_on(met, folder, passed)
    return found


def _hand_on(met: Passed, folder: Path, passed: Passed | None) -> None:
    if passed is None:
        met.say(folder)
    else:
        passed.add(met)


def say_unlabelled(paths: Iterable[Path], root: Path, why: str) -> None:
    """Name pictures that no label speaks of, so that nobody takes them for good ones: they are left out."""
    every = sorted(paths)
    if every:
        names = listed((relative(path, root) for path in every), most=3)
        say_once(root, f"{root.name}: {len(every)} pictures left out, {why}: {names}")


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """Masks of a folder by the stem of their picture: `007_mask.png` and `007.png` both belong to `007`."""
    return by_stem(images_in(folder))


def by_stem(masks: Iterable[Path]) -> dict[str, Path]:
    """Masks by the stem of their picture. Of two, the one that says `_mask`, in any case, is taken."""
    plain, marked = {}, {}
    for path in masks:
        if path.stem.lower().endswith(MASK):
            marked[path.stem[: -len(MASK)]] = path
        else:
            plain[path.stem] = path
    return plain | marked


def relative(path: Path | None, root: Path) -> str:
    """Path relative to `root` with forward slashes; empty for None."""
    return "" if path is None else path.relative_to(root).as_posix()


def listed(names: Iterable[str], most: int = 12) -> str:
    """`a, b, c` for an error line, shortened where there are many."""
    every = [str(name) for name in names]
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
