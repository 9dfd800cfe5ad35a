"""Drawn parts with scratches, spots, cracks and stains, and exact masks: for tests and for trying things offline.

The pictures are drawn once into the root, in the MVTec layout with its published split (only good parts in train),
and read from there ever after. Each is a pure function of the settings. `copies` is the share of pictures that show
a part once more, shifted and under other light, so that the search for near-copies has something to find; the
manifest `synthetic.json` says which part each picture shows, which only tests may look at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from ssl_defect import console
from ssl_defect.artifacts import read_json, write_json
from ssl_defect.config import Settings
from ssl_defect.data.records import Sample
from ssl_defect.data.sources import mvtec
from ssl_defect.data.sources.drawing import MARGIN, capture, draw_defect, draw_part
from ssl_defect.errors import UserError

Pixels = npt.NDArray[np.uint8]

MANIFEST = "synthetic.json"
VERSION = 1  # of the drawing: other pictures for the same settings need another number
TRAIN_SHARE = 0.7  # of the good parts


class Options(Settings):
    """data.options of the source `synthetic`."""

    good: int = Field(200, ge=2, description="Number of pictures of good parts.")
    defective: int = Field(25, ge=0, description="Number of pictures of each defect.")
    classes: list[Literal["crack", "scratch", "spot", "stain"]] = Field(
        ["crack", "scratch", "spot", "stain"], description="Kinds of defects."
    )
    size: int = Field(128, ge=32, le=2048, description="Side of a picture, in pixels.")
    seed: int = Field(0, ge=0, description="Seed of all that is drawn.")
    copies: float = Field(0.2, ge=0, le=0.9, description="Share of the pictures that show an earlier part once more.")


@dataclass(frozen=True)
class Shot:
    """One picture to draw: where it goes, the part it shows, its defect (empty if good) and which capture it is."""

    image: str
    mask: str
    part: int
    defect: str
    capture: int


def scan(root: Path, options: Options) -> list[Sample]:
    """Draw the pictures unless the root holds them already, then list them as the source `mvtec` does.

    Raises:
        UserError: the root holds something else, or pictures of other settings.
        OSError: the disk is full, or the root cannot be written.
    """
    wanted = {"version": VERSION, **options.model_dump()}
    if not root.is_dir() or not any(root.iterdir()):
        _draw_all(root, options, wanted)
    elif not (root / MANIFEST).is_file():
        raise UserError(f"data.root: {root} holds other files; give a new or empty folder to draw the pictures into")
    elif read_json(root / MANIFEST).get("options") != wanted:
        raise UserError(
            f"data.root: {root} holds pictures drawn with other options; delete that folder or give another one"
        )
    return mvtec.scan(root, mvtec.Options())


def shots(options: Options) -> Iterator[Shot]:
    """All pictures in order. Of each class, the last `copies` share shows earlier parts of that class again."""
    part = 0
    for defect in ("", *sorted(set(options.classes))):
        count = options.defective if defect else options.good
        originals = max(1, count - round(count * options.copies)) if count else 0
        for number in range(count):
            home = f"test/{defect or 'good'}"
            if not defect and number % 10 < TRAIN_SHARE * 10:
                home = "train/good"
            mask = f"ground_truth/{defect}/{number:04d}_mask.png" if defect else ""
            yield Shot(f"{home}/{number:04d}.png", mask, part + number % originals, defect, number // originals)
        part += originals


def _draw_all(root: Path, options: Options, wanted: dict[str, object]) -> None:
    console.say(f"synthetic: drawing pictures into {root}")
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    every = list(shots(options))
    try:
        for folder in {(partial / name).parent for shot in every for name in (shot.image, shot.mask) if name}:
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
            drawn = pool.map(lambda shot: _draw(partial, shot, options), every)
            for _ in console.track(drawn, len(every), "drawing"):
                pass
        write_json(partial / MANIFEST, {"options": wanted, "parts": {shot.image: shot.part for shot in every}})
        if root.is_dir():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _draw(folder: Path, shot: Shot, options: Options) -> None:
    picture, mask = render(shot, options)
    Image.fromarray(picture).save(folder / shot.image, compress_level=1)
    if shot.mask:
        Image.fromarray(mask).save(folder / shot.mask, compress_level=1)


def render(shot: Shot, options: Options) -> tuple[Pixels, Pixels]:
    """Picture and mask of a shot, both uint8 (S, S), the mask of 0 and 255; only the settings decide them."""
    side = round(options.size * MARGIN)
    room = side - options.size
    part = np.random.default_rng((options.seed, 0, shot.part))
    surface, solid = draw_part(part, side)
    mask = np.zeros((side, side), np.bool_)
    if shot.defect:
        mask = draw_defect(part, surface, solid, shot.defect, (room, options.size))
    return capture(np.random.default_rng((options.seed, 1, shot.part, shot.capture)), surface, mask, options.size)
