"""A folder of pictures with a COCO annotation file: boxes of defects, their classes, and good parts without any.

Lin et al. 2014 (arXiv:1405.0312); the format is that of cocodataset.org/#format-data. Only boxes are read: polygons
and run lengths would have to become mask files first.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from pydantic import Field

from ssl_defect import console
from ssl_defect.config import Settings
from ssl_defect.data.records import GOOD, Box, Sample, format_boxes
from ssl_defect.data.sources.listing import images_in, listed, relative, require_folder, say_unlabelled
from ssl_defect.errors import UserError

IMAGE_FOLDERS = ("images", "")


class Options(Settings):
    """data.options of the source `coco`."""

    annotations: str = Field("", description="The annotation file within the root; the only .json file if left out.")
    images: str = Field("", description="Folder of the pictures within the root; `images` or the root if left out.")


def scan(root: Path, options: Options) -> list[Sample]:
    """List the pictures of the annotation file, sorted by path; nothing is decoded.

    A picture without a box is good. One with several classes of boxes counts for the class that it has most boxes of.

    Raises:
        UserError: the file is missing, no JSON or empty, names unknown pictures or categories, or a box lies outside.
    """
    file = _find_file(require_folder(root), options.annotations)
    content = _read(file)
    folder = _image_folder(root, options.images, content["images"], file)
    names = {category["id"]: _class_name(file, str(category["name"])) for category in content["categories"]}
    pictures = {picture["id"]: picture for picture in content["images"]}
    boxes, clipped = _boxes(file, content["annotations"], pictures, names)
    if clipped:
        console.say(f"{file.name}: {clipped} boxes reached beyond their picture and were cut at its border")
    samples = [_sample(root, folder, picture, boxes[number]) for number, picture in pictures.items()]
    if len(pictures) < len(content["images"]):
        raise UserError(f"{file}: two pictures of 'images' have the same id; export the annotation again")
    repeated = [name for name, count in Counter(sample.image for sample in samples).items() if count > 1]
    if repeated:
        raise UserError(f"{file}: lists the picture '{repeated[0]}' twice; give every picture one entry")
    known = {sample.image for sample in samples}
    others = [path for path in images_in(folder, deep=True) if relative(path, root) not in known]
    say_unlabelled(others, root, f"not in the list 'images' of {file.name} and so without a label")
    return sorted(samples, key=lambda sample: sample.image)


def _find_file(root: Path, name: str) -> Path:
    if name:
        if not (root / name).is_file():
            raise UserError(f"data.options.annotations: {root / name} does not exist; name a file within the root")
        return root / name
    found = sorted([*root.glob("*.json"), *(root / "annotations").glob("*.json")])
    if len(found) != 1:
        there = f"{len(found)} .json files ({listed(path.name for path in found)})" if found else "no .json file"
        raise UserError(f"data.root: {root} holds {there}; name the COCO file with data.options.annotations")
    return found[0]


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        where = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{file}: not valid JSON{where}; export the annotation again") from error
    wanted = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name"), "annotations": ("bbox",)}
    for section, keys in wanted.items():
        entries = content.get(section) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"{file}: lacks the list '{section}'; a COCO file has {', '.join(wanted)}")
        if not entries:
            raise UserError(f"{file}: its list '{section}' is empty; annotate some defects, or use another source")
        for number, entry in enumerate(entries):
            missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
            if missing:
                raise UserError(f"{file}: {section}[{number}] lacks '{missing[0]}'; export the annotation again")
    return dict(content)


def _class_name(file: Path, name: str) -> str:
    clean = " ".join(name.split())
    if clean in ("", GOOD):
        raise UserError(
            f"{file}: a category is named '{clean}'; name it after its defect ('good' is a part without a box)"
        )
    return clean


def _image_folder(root: Path, name: str, pictures: list[dict[str, Any]], file: Path) -> Path:
    candidates = [name] if name else list(IMAGE_FOLDERS)
    first = str(pictures[0]["file_name"])
    folder = next((root / option for option in candidates if (root / option / first).is_file()), root / candidates[0])
    for picture in pictures:
        path = Path(str(picture["file_name"]))
        if path.is_absolute() or ".." in path.parts or not (folder / path).is_file():
            raise UserError(
                f"{file}: the picture '{path}' is not in {folder}; name the folder with data.options.images"
            )
    return folder


def _boxes(
    file: Path, annotations: list[dict[str, Any]], pictures: dict[Any, dict[str, Any]], names: dict[Any, str]
) -> tuple[dict[Any, list[Box]], int]:
    boxes: dict[Any, list[Box]] = defaultdict(list)
    clipped = 0
    for number, entry in enumerate(annotations):
        where = f"{file}: annotation {entry.get('id', number)}"
        picture, name = pictures.get(entry.get("image_id")), names.get(entry.get("category_id"))
        if picture is None:
            raise UserError(f"{where} is of image_id {entry.get('image_id')}, which 'images' lacks")
        if name is None:
            known = listed(f"{key} ({value})" for key, value in names.items())
            raise UserError(f"{where} has category_id {entry.get('category_id')}; 'categories' has {known}")
        box, cut = _box(entry["bbox"], picture, name, where)
        boxes[picture["id"]].append(box)
        clipped += cut
    return boxes, clipped


def _box(edges: Any, picture: dict[str, Any], name: str, where: str) -> tuple[Box, bool]:
    """The box cut at the border of its picture, and whether that changed it."""
    width, height = float(picture["width"]), float(picture["height"])
    what = f"{where} of '{picture['file_name']}': the box {edges}"
    try:
        x, y, w, h = (float(edge) for edge in edges)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} is not [x, y, width, height]") from error
    if not (w > 0 and h > 0):
        raise UserError(f"{what} has no area; width and height must be above 0")
    cut = Box(max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height), name)
    if not (cut.x2 > cut.x1 and cut.y2 > cut.y1):
        raise UserError(f"{what} lies outside the picture of {width:g} x {height:g} pixels")
    return cut, cut != Box(x, y, x + w, y + h, name)


def _sample(root: Path, folder: Path, picture: dict[str, Any], boxes: list[Box]) -> Sample:
    image = (folder / str(picture["file_name"])).relative_to(root).as_posix()
    if not boxes:
        return Sample(image=image)
    [(defect, _)] = Counter(box.defect for box in boxes).most_common(1)
    return Sample(image=image, label=1, defect=defect, boxes=format_boxes(boxes))
