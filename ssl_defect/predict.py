"""predict: scores, verdicts and overlays for new pictures, from a finished run alone."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ssl_defect.artifacts import atomic, read_json, require
from ssl_defect.config import ComputeSettings, load_recipe
from ssl_defect.console import say, track
from ssl_defect.data.images import Pixels, UnusableError, is_grey, load_picture, to_square
from ssl_defect.data.sources.listing import images_in
from ssl_defect.errors import UserError
from ssl_defect.evaluate.gradcam import gradcam
from ssl_defect.evaluate.inference import Runner
from ssl_defect.evaluate.relevance import relevance
from ssl_defect.evaluate.stage import UNEXPLAINED
from ssl_defect.findings import box_edges, finding
from ssl_defect.nets.detector import Spec, load_detector
from ssl_defect.overlays import Map, overlay_names, save_overlay

COLUMNS = ("image", "score", "verdict", "found", "area", "overlay", "note")
BATCH = 32


@dataclass(frozen=True)
class Loaded:
    """A run's detector, ready to be used, and its thresholds of an image's score and of a pixel's probability."""

    runner: Runner
    score: float
    pixel: float

    @property
    def spec(self) -> Spec:
        """What the detector was built from."""
        return self.runner.detector.spec


class Picture(NamedTuple):
    """One picture as decoded and as the detector takes it; `pixels` is None where it could not be read."""

    path: Path
    pixels: Pixels | None
    square: Pixels | None
    note: str


def predict(
    run: Path, images: Sequence[Path], out: Path, device: str = "auto", threshold: float | None = None
) -> list[dict[str, Any]]:
    """Judge pictures; write `predictions.csv` and `overlays/<name>.png`, at the pictures' own resolution, into `out`.

    A row has image, score in [0, 1], verdict (good, defective or error), found (class,
    labels, value or boxes: `findings`), area (share of the pixels found defective;
    empty without a map), overlay (relative to `out`) and note. Pictures with the same name get numbered overlays.

    Args:
        run: a run folder with finished stages finetune and evaluate; its raw pictures may be gone.
        images: files, or folders that are searched whole.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threshold: score from which a picture is called defective; the run's own where left out.

    Returns:
        One row per picture, in the order given.

    Raises:
        UserError: the run lacks a stage or there is no picture; or, after all others were done and written, some
            pictures could not be read.
    """
    loaded = load_run(run, device)
    if threshold is not None:
        loaded = replace(loaded, score=threshold)
    paths = find_pictures(images, out)
    try:
        (out / "overlays").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); give another folder with --out") from error
    names = overlay_names(paths)
    rows: list[dict[str, Any]] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # decoders warn of what is checked here anyway
        pictures = _decoded(paths, loaded.spec, pool)
        try:
            for picture in track(_judged(pictures, loaded, names, out, pool), len(paths), "predict"):
                rows.append(picture)
        finally:  # of an interrupted one too: a row is a verdict that was waited for
            if rows:  # else what an earlier one wrote stays
                _write(out / "predictions.csv", rows)
            if 0 < len(rows) < len(paths):
                say(f"predict: {len(rows)} of {len(paths)} pictures are judged, listed in {out / 'predictions.csv'}")
    failed = [row for row in rows if row["verdict"] == "error"]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(rows)} pictures could not be read (first: {failed[0]['image']}: "
            f"{failed[0]['note']}); the others are done, all are listed in {out / 'predictions.csv'}"
        )
    return rows


def load_run(run: Path, device: str = "auto") -> Loaded:
    """The detector and the thresholds of a run, in the precision in which it was evaluated.

    Raises:
        UserError: the run lacks finetune or evaluate, or a file is damaged.
    """
    detector = load_detector(require(run / "finetune" / "model.safetensors", "finetune"))
    found = read_json(require(run / "evaluate" / "metrics.json", "evaluate"))
    recipe = run / "recipe.yaml"
    precision = load_recipe(recipe).compute.precision if recipe.is_file() else "auto"
    compute = ComputeSettings.model_validate({"device": device, "precision": precision})
    try:
        score, pixel = found["threshold"]["value"], found["threshold"]["pixel"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{run}/evaluate/metrics.json: holds no threshold; run `ssl-defect evaluate` again") from error
    return Loaded(Runner(detector, compute), float(score), 0.5 if pixel is None else float(pixel))


def find_pictures(images: Sequence[Path], out: Path) -> list[Path]:
    """Files as they are, folders as the pictures anywhere in them (but no overlays of an earlier time); each once.

    Raises:
        UserError: there is none.
    """
    found: dict[Path, None] = {}
    overlays = (out / "overlays").resolve()
    for path in images:
        inside = images_in(path, deep=True) if path.is_dir() else [path]
        kept = [file for file in inside if not (path.is_dir() and overlays in file.resolve().parents)]
        found.update(dict.fromkeys(kept))
    if not found:
        raise UserError(f"no pictures in {', '.join(map(str, images)) or 'nothing'}; give files, or folders of them")
    return list(found)


def _decoded(paths: list[Path], spec: Spec, pool: ThreadPoolExecutor) -> Iterator[list[Picture]]:
    """Batches of pictures, the next one decoded meanwhile; no more than two are held."""
    chunks = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    waiting = [pool.submit(read_picture, path, spec) for path in chunks[0]]
    for chunk in [*chunks[1:], []]:
        done, waiting = waiting, [pool.submit(read_picture, path, spec) for path in chunk]
        yield [future.result() for future in done]


def read_picture(path: Path, spec: Spec) -> Picture:
    """Decode and resize a picture exactly as `prepare` does."""
    try:
        if not path.exists():
            return Picture(path, None, None, "no such file")
        pixels, odd = load_picture(path, spec.white)
    except UnusableError as error:
        return Picture(path, None, None, str(error))
    square = to_square(pixels, spec.image_size)
    if spec.channels == 1 and not is_grey(square):
        odd.append("colour picture for a detector of grey ones")
        square = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)[..., None]
    shape = (spec.image_size, spec.image_size, spec.channels)
    return Picture(path, pixels, np.broadcast_to(square[..., : spec.channels], shape), "; ".join(odd))


def _judged(
    batches: Iterator[list[Picture]], loaded: Loaded, names: list[str], out: Path, pool: ThreadPoolExecutor
) -> Iterator[dict[str, Any]]:
    place = iter(names)
    for batch in batches:
        squares = [picture.square for picture in batch if picture.square is not None]
        outputs, maps, drawn = _detect(loaded, np.stack(squares)) if squares else ({}, [], False)
        turn = iter(range(len(squares)))
        waiting = []
        for picture in batch:
            name = f"overlays/{next(place)}"
            if picture.pixels is None:
                row = dict.fromkeys(COLUMNS, "") | {"image": str(picture.path), "verdict": "error"}
                yield row | {"note": picture.note}
                continue
            number = next(turn)
            score, heat = float(outputs["score"][number]), maps[number]
            mine = {name: values[number] for name, values in outputs.items()}
            mask = heat >= loaded.pixel if drawn else None
            boxes = box_edges(loaded.spec, mine, loaded.score)
            waiting.append(pool.submit(save_overlay, out / name, picture.pixels, heat, mask, boxes))
            yield {
                "image": str(picture.path),
                "score": score,
                "verdict": "defective" if score >= loaded.score else "good",
                "found": finding(loaded.spec, mine, loaded.score, *picture.pixels.shape[1::-1]),
                "area": "" if mask is None else float(mask.mean()),
                "overlay": name,
                "note": picture.note,
            }
        for future in waiting:
            future.result()


def _detect(loaded: Loaded, squares: Pixels) -> tuple[dict[str, NDArray[Any]], list[Map], bool]:
    """Outputs (B, ...), a map (S, S) in [0, 1] each, and whether it is the detector's own: else it is Grad-CAM.

    A classical detector, or one of anomalies, that has no map has none of both: its maps are empty.
    """
    runner = loaded.runner
    x = torch.from_numpy(squares).to(runner.device).permute(0, 3, 1, 2).float() / 255
    with runner.inference():
        found = {name: value.float().cpu().numpy() for name, value in runner.detector.predict(x).items()}
    maps = found.pop("map", None)
    if maps is not None:
        return found, list(maps), True
    if runner.detector.spec.task in UNEXPLAINED:
        return found, list(np.zeros(squares.shape[:3], np.float32)), False
    looked = relevance(runner.detector, x)  # of a plain ViT
    return found, list(gradcam(runner.detector, x) if looked is None else looked), False


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
