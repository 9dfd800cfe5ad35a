"""Magnetic Tile surface defects in the layout of their public repository: `MT_<Class>/Imgs/*.jpg`, masks as `.png`.

Huang, Qiu, Yuan: Surface defect saliency of magnetic tile, The Visual Computer 2020. No licence is stated; the
authors welcome use with a citation. `Free` is the good class.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ssl_defect import console
from ssl_defect.config import Settings
from ssl_defect.data.records import GOOD, Sample
from ssl_defect.data.sources.listing import folders_in, images_in, listed, relative, require_folder
from ssl_defect.errors import UserError, nearest

PREFIX = "MT_"
FREE = "Free"
CLASSES = (FREE, "Blowhole", "Break", "Crack", "Fray", "Uneven")


class Options(Settings):
    """data.options of the source `magnetic_tile`."""

    extra_classes: list[str] = Field([], description="Names of further defect folders, without their `MT_`.")


def scan(root: Path, options: Options) -> list[Sample]:
    """List the pictures of every class, sorted by path; nothing is decoded.

    Raises:
        UserError: missing or empty folder, no `MT_` folders, an unknown class, or a class without pictures.
    """
    folders = [path for path in folders_in(require_folder(root)) if path.name.startswith(PREFIX)]
    if not folders:
        raise UserError(f"data.root: {root} holds no MT_<Class> folders; give the folder that holds MT_Free and others")
    accepted = [*CLASSES, *options.extra_classes]
    for folder in folders:
        name = folder.name.removeprefix(PREFIX)
        if name not in accepted:
            raise UserError(
                f"{folder}: unknown class '{name}'; accepted: {listed(accepted)} "
                f"(data.options.extra_classes allows more){nearest(name, accepted)}"
            )
    missing = [name for name in accepted if not (root / f"{PREFIX}{name}").is_dir()]
    if missing:
        console.say(f"{root}: no folders for {listed(missing)}")
    return sorted((sample for folder in folders for sample in _samples(root, folder)), key=lambda s: s.image)


def _samples(root: Path, folder: Path) -> list[Sample]:
    files = images_in(folder / "Imgs")
    masks = {path.stem: path for path in files if path.suffix.lower() == ".png"}
    images = [path for path in files if path.suffix.lower() != ".png"]
    if not images:
        raise UserError(f"{folder / 'Imgs'}: holds no .jpg pictures; every class needs Imgs/*.jpg and masks as .png")
    name = folder.name.removeprefix(PREFIX)
    return [
        Sample(
            image=relative(path, root),
            mask=relative(masks.get(path.stem), root),
            label=int(name != FREE),
            defect=GOOD if name == FREE else name,
        )
        for path in images
    ]
