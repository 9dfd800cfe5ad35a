"""What every source shares: listing pictures and folders, and pairing pictures with masks. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ssl_defect import console
from ssl_defect.errors import UserError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


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


def folders_in(folder: Path) -> list[Path]:
    """Visible sub-folders, by name; empty where `folder` is missing."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def images_in(folder: Path, deep: bool = False) -> list[Path]:
    """Visible files with the name of a picture, by path; with `deep` those of all sub-folders too."""
    if not folder.is_dir():
        return []
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(path for path in found if _is_picture(path.relative_to(folder)) and path.is_file())


def say_unlabelled(paths: Iterable[Path], root: Path, why: str) -> None:
    """Name pictures that no label speaks of, so that nobody takes them for good ones: they are left out."""
    every = sorted(paths)
    if every:
        names = listed((relative(path, root) for path in every), most=3)
        console.say(f"{root.name}: {len(every)} pictures left out, {why}: {names}")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not any(part.startswith(".") for part in path.parts)


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """Masks of a folder by the stem of their picture: `007_mask.png` and `007.png` both belong to `007`.

    Where both are there, the one that says `_mask` is taken.
    """
    masks = images_in(folder)
    plain = {path.stem: path for path in masks if not path.stem.endswith("_mask")}
    return plain | {path.stem.removesuffix("_mask"): path for path in masks if path.stem.endswith("_mask")}


def relative(path: Path | None, root: Path) -> str:
    """Path relative to `root` with forward slashes; empty for None."""
    return "" if path is None else path.relative_to(root).as_posix()


def listed(names: Iterable[str], most: int = 12) -> str:
    """`a, b, c` for an error line, shortened where there are many."""
    every = [str(name) for name in names]
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
