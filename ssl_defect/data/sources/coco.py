"""A folder of pictures with a COCO annotation file: boxes of defects, their classes, and good parts without any.

Lin et al. 2014 (arXiv:1405.0312); the format is that of cocodataset.org/#format-data. Only boxes are read: polygons
and run lengths would have to become mask files first.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from pydantic import Field

from ssl_defect import console
from ssl_defect.config import Settings
from ssl_defect.data.records import GOOD, Box, Sample, format_boxes
from ssl_defect.data.sources.listing import images_in, listed, relative, require_folder, say_unlabelled
from ssl_defect.errors import UserError

IMAGE_FOLDERS = ("images", "")
MOST = 1e9  # pixels; beyond it, or without an end, a number is no place in a picture

Check = tuple[Callable[[Any], bool], str]  # whether a value is accepted, and what is, in words


class Options(Settings):
    """data.options of the source `coco`."""

    annotations: str = Field("", description="The annotation file within the root; the only .json file if left out.")
    images: str = Field("", description="Folder of the pictures within the root; `images` or the root if left out.")


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_name(value) and not isinstance(value, str) and -MOST < value < MOST


def _is_side(value: Any) -> bool:
    return _is_number(value) and value > 0 and value % 1 == 0


NAME: Check = (_is_name, "a number or a text")
SIDE: Check = (_is_side, "a whole number of pixels above 0")
BOX: Check = (
    lambda value: isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)),
    "[x, y, width, height], four numbers in pixels",
)
WANTED: dict[str, dict[str, Check]] = {
    "images": {
        "id": NAME,
        "file_name": (lambda value: isinstance(value, str), "a text"),
        "width": SIDE,
        "height": SIDE,
    },
    "categories": {"id": NAME, "name": NAME},
    "annotations": {"image_id": NAME, "category_id": NAME, "bbox": BOX},
}


def scan(root: Path, options: Options) -> list[Sample]:
    """List the pictures of the annotation file, sorted by path; nothing is decoded.

    A picture without a box is good. One with several classes of boxes counts for the class that it has most boxes of.
    Width and height are those that were annotated: decoding sets a picture of another size aside.

    Raises:
        UserError: the file is missing, no JSON or empty, holds a value of a wrong type, names unknown pictures or
            categories, or a box lies outside.
    """
    file = _find_file(require_folder(root), options.annotations)
    content = _read(file)
    folder = _image_folder(root, options.images, content["images"], file)
    names = {category["id"]: _class_name(file, str(category["name"])) for category in content["categories"]}
    if len(names) < len(content["categories"]):
        raise UserError(f"{file}: two categories of 'categories' have the same id; export the annotation again")
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
    except (ValueError, RecursionError) as error:  # also numbers and nestings beyond what Python reads
        where = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{file}: not valid JSON{where}; export the annotation again") from error
    for section, checks in WANTED.items():
        entries = content.get(section) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"{file}: lacks the list '{section}'; a COCO file has {', '.join(WANTED)}")
        if not entries:
            raise UserError(f"{file}: its list '{section}' is empty; annotate some defects, or use another source")
        for number, entry in enumerate(entries):
            _check(entry, checks, f"{file}: {section}[{number}]")
    return dict(content)


def _check(entry: Any, checks: dict[str, Check], where: str) -> None:
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {shortened(entry)}; it must hold {', '.join(checks)}; export the annotation again")
    for key, (accepted, what) in checks.items():
        if key not in entry:
            raise UserError(f"{where} lacks '{key}'; export the annotation again")
        if not accepted(entry[key]):
            raise UserError(
                f"{where}: '{key}' is {shortened(entry[key])}, which is not {what}; correct it or export the "
                "annotation again"
            )


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
        picture, name = pictures.get(entry["image_id"]), names.get(entry["category_id"])
        if picture is None:
            raise UserError(f"{where} is of image_id {entry['image_id']}, which 'images' lacks")
        if name is None:
            known = listed(f"{key} ({value})" for key, value in names.items())
            raise UserError(f"{where} has category_id {entry['category_id']}; 'categories' has {known}")
        box, cut = _box(entry["bbox"], picture, name, where)
        boxes[picture["id"]].append(box)
        clipped += cut
    return boxes, clipped


def _box(edges: list[float], picture: dict[str, Any], name: str, where: str) -> tuple[Box, bool]:
    """The box cut at the border of its picture, and whether that changed it."""
    width, height = float(picture["width"]), float(picture["height"])
    what = f"{where} of '{picture['file_name']}': the box {edges}"
    x, y, w, h = (float(edge) for edge in edges)
    if not (w > 0 and h > 0):
        raise UserError(f"{what} has no area; width and height must be above 0")
    cut = Box(max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height), name)
    if not (cut.x2 > cut.x1 and cut.y2 > cut.y1):
        raise UserError(f"{what} lies outside the picture of {width:g} x {height:g} pixels")
    return cut, cut != Box(x, y, x + w, y + h, name)


def _sample(root: Path, folder: Path, picture: dict[str, Any], boxes: list[Box]) -> Sample:
    image = (folder / str(picture["file_name"])).relative_to(root).as_posix()
    good = Sample(image=image, width=int(picture["width"]), height=int(picture["height"]))
    if not boxes:
        return good
    [(defect, _)] = Counter(box.defect for box in boxes).most_common(1)
    return replace(good, label=1, defect=defect, boxes=format_boxes(boxes))
