"""Where the runs disagree: a table of agreements, and the same images under each detector side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssl_defect.compare.agreement import agreement, contested
from ssl_defect.compare.baselines import Bases
from ssl_defect.compare.runs import Arm, Run
from ssl_defect.report.mistakes import class_of, drawn_of, found_of, heat_of
from ssl_defect.report.pictures import aspect_of, data_uri, heat_uri, outline

IMAGES = 24
DETECTORS = 6  # side by side; more would be too small to see


@dataclass(frozen=True)
class View:
    """One image under one detector; paths of outlines and a layer of heat as in `report.pictures.Shot`."""

    name: str
    score: float
    rank: float
    verdict: str
    correct: bool
    side: int
    heat: str
    outline_found: str
    outline_true: str
    alt: str


def section(arms: Sequence[Arm], bases: Bases, baseline: Arm) -> dict[str, Any]:
    """Counts of agreement of each with its baseline, and the images most contested between `baseline` and its best.

    Arms without verdicts are left out.
    """
    judged = [arm for arm in arms if arm.first.records.metrics["threshold"]["value"] is not None]
    others = [arm for arm in judged if arm is not baseline]
    if baseline not in judged or not others:
        return {"counts": [], "images": [], "baseline": baseline.name, "left_out": 0, "seeds": False}
    alike = [arm for arm in others if bases.get(arm) is baseline] or others  # else labels would pass for pretraining
    shown = [baseline, *alike][:DETECTORS]
    runs = [arm.first for arm in shown]
    return {
        "counts": [
            {"name": arm.name, "base": base.name} | agreement(arm.first, base.first)
            for arm in others
            if (base := bases.get(arm, arm)) is not arm and base in judged
        ],
        "images": [_image(shown, place) for place in contested(runs, IMAGES)],
        "baseline": baseline.name,
        "left_out": len(judged) - len(shown),
        "seeds": any(len(arm.runs) > 1 for arm in judged),
        "maps": any(run.records.maps is not None for run in runs),
        "total": len(baseline.first.labels),
    }


def _image(arms: Sequence[Arm], place: int) -> dict[str, Any]:
    run = arms[0].first
    one, store = run.records.predictions[place], run.records.store
    sample = store.samples[one.row]
    return {
        "uri": data_uri(store.images[one.row]),
        "aspect": aspect_of(sample.width, sample.height),
        "file": one.image,
        "title": class_of(one),
        "views": [_view(arm, arm.first, place) for arm in arms],
    }


def _view(arm: Arm, run: Run, place: int) -> View:
    records = run.records
    one = records.predictions[place]
    cells, drawn = found_of(records, one, place), drawn_of(records, one)
    values = heat_of(records, one, place) if records.maps is not None else None
    below = float((run.scores < one.score).sum()) / max(1, len(run.scores) - 1)
    return View(
        name=arm.name,
        score=one.score,
        rank=below,
        verdict=one.verdict,
        correct=one.correct,
        side=records.store.images.shape[1],
        heat="" if values is None else heat_uri(values),
        outline_found="" if cells is None else outline(cells),
        outline_true="" if drawn is None else outline(drawn),
        alt=f"{one.image} under {arm.name}: called {one.verdict}, score {one.score:.3f}, truly {class_of(one)}",
    )
