"""COCO's measures against pycocotools, by hand, and under a bootstrap."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from ssl_defect.evaluate.bootstrap import Resampling, intervals
from ssl_defect.evaluate.coco import coco_family, coco_metrics, match_all
from ssl_defect.nets.detection.matching import Picture, box_picture, mask_picture

SIDE = 160


def random_case(seed: int, pictures: int = 12, classes: int = 3) -> list[dict]:
    """Defects, and detections near them or anywhere; coarse scores, so that many are equal."""
    rng = np.random.default_rng(seed)
    case = []
    for _ in range(pictures):
        count = rng.integers(0, 5) if rng.random() < 0.8 else 0
        corner, side = rng.integers(0, SIDE - 20, (count, 2)), rng.integers(1, 130, (count, 2))
        true = np.concatenate([corner, np.minimum(corner + side, SIDE)], axis=1).astype(float)
        near = true[rng.integers(0, count, rng.integers(0, 8))] if count else np.zeros((0, 4))
        near = near + rng.normal(0, rng.choice([0.0, 1.0, 6.0]), near.shape).round(rng.choice([0, 2]))
        corner = rng.integers(0, SIDE - 20, (rng.integers(0, 6), 2))
        found = np.concatenate([near, np.concatenate([corner, corner + rng.integers(1, 20, corner.shape)], axis=1)])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        scores = rng.random(len(found)).round(rng.choice([1, 6]))
        case.append(
            {
                "boxes": found,
                "scores": scores,
                "classes": rng.integers(1, classes + 1, len(found)),
                "true_boxes": true,
                "true_classes": rng.integers(1, classes + 1, count),
            }
        )
    return case


def rasterise(boxes: np.ndarray) -> np.ndarray:
    masks = np.zeros((len(boxes), SIDE, SIDE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().astype(int), strict=True):
        mask[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = True
        mask[max(y1, 0) : max(y1, 0) + 3, :5] = True  # no longer a box
    return masks


def by_pycocotools(case: list[dict], kind: str) -> dict[str, float]:
    from pycocotools import mask as run_length
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(number: int, place: int, box: np.ndarray, name: int) -> dict:
        x1, y1, x2, y2 = (float(edge) for edge in box)
        part = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
        if kind == "segm":
            coded = run_length.encode(np.asfortranarray(rasterise(box[None])[0].astype(np.uint8)))
            part = {"segmentation": coded, "area": float(run_length.area(coded)), "bbox": part["bbox"]}
        return part | {"id": number, "image_id": place + 1, "category_id": int(name), "iscrowd": 0}

    true, found = [], []
    for place, picture in enumerate(case):
        for box, name in zip(picture["true_boxes"], picture["true_classes"], strict=True):
            true.append(entry(len(true) + 1, place, box, name))
        for box, name, score in zip(picture["boxes"], picture["classes"], picture["scores"], strict=True):
            found.append(entry(len(found) + 1, place, box, name) | {"score": float(score)})
    base = {"images": [{"id": place + 1, "height": SIDE, "width": SIDE} for place in range(len(case))]}
    base["categories"] = [{"id": number} for number in sorted({entry["category_id"] for entry in true})]
    sets = []
    with contextlib.redirect_stdout(io.StringIO()):
        for annotations in (true, found):
            coco = COCO()
            coco.dataset = base | {"annotations": annotations}
            coco.createIndex()
            sets.append(coco)
        evaluation = COCOeval(*sets, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = (
        "AP",
        "AP50",
        "AP75",
        "AP_small",
        "AP_medium",
        "AP_large",
        "",
        "",
        "AR",
        "AR_small",
        "AR_medium",
        "AR_large",
    )
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=True) if name}


def pictures_of(case: list[dict], kind: str = "bbox") -> list[Picture]:
    if kind == "bbox":
        return [box_picture(**picture) for picture in case]
    return [
        mask_picture(rasterise(p["boxes"]), p["scores"], p["classes"], rasterise(p["true_boxes"]), p["true_classes"])
        for p in case
    ]


def check(case: list[dict], kind: str) -> None:
    expected = by_pycocotools(case, kind)
    found = coco_metrics(pictures_of(case, kind), areas=True)
    assert set(found) == set(expected)
    for name, value in expected.items():  # pycocotools gives -1 where nothing is asked for
        assert np.nan_to_num(found[name], nan=-1) == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("seed", range(60))
def test_boxes_equal_pycocotools(seed: int) -> None:
    check(random_case(seed, pictures=1 + seed % 20, classes=1 + seed % 4), "bbox")


@pytest.mark.parametrize("seed", range(8))
def test_masks_equal_pycocotools(seed: int) -> None:
    check(random_case(100 + seed, pictures=5, classes=2), "segm")


def test_more_than_a_hundred_detections_equal_pycocotools() -> None:
    rng = np.random.default_rng(0)
    case = random_case(1, pictures=3, classes=1)
    for picture in case:
        corner = rng.integers(0, 100, (130, 2)).astype(float)
        picture["boxes"] = np.concatenate([np.concatenate([corner, corner + 25], axis=1), picture["true_boxes"]])
        picture["scores"] = rng.random(len(picture["boxes"]))
        picture["classes"] = np.ones(len(picture["boxes"]), int)
    check(case, "bbox")


def test_no_detections_and_no_defects() -> None:
    empty, one = np.zeros((0, 4)), np.array([[0.0, 0, 4, 4]])
    missed = box_picture(empty, np.zeros(0), np.zeros(0), one, np.array([1]))
    false_alarm = box_picture(one, np.array([0.9]), np.array([1]), empty, np.zeros(0))
    assert coco_metrics([missed, false_alarm]) == {"AP": 0, "AP50": 0, "AP75": 0, "AR": 0}
    assert all(np.isnan(value) for value in coco_metrics([false_alarm]).values())
    assert all(np.isnan(value) for value in coco_metrics([]).values())


def test_average_precision_by_hand() -> None:
    """A hit, a false alarm, a hit of two defects: recalls up to 0.5 at precision 1, the rest at 2/3."""
    true = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    found = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 28]])
    picture = box_picture(found, np.array([0.9, 0.8, 0.7]), np.ones(3), true, np.ones(2))
    metrics = coco_metrics([picture])
    assert metrics["AP50"] == metrics["AP75"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert metrics["AR"] == pytest.approx((7 * 1.0 + 3 * 0.5) / 10)  # its overlap is 0.8: 0.50 to 0.80 are reached


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_a_repetition(seed: int) -> None:
    case = random_case(seed, pictures=8, classes=2)
    rng = np.random.default_rng(seed)
    for picture in case:
        picture["scores"] = rng.random(len(picture["scores"]))  # equal scores would be in another order
    weights = rng.integers(0, 4, (3, 8))
    family = coco_family(match_all(pictures_of(case)))(weights)
    for number, counts in enumerate(weights):
        expected = coco_metrics(pictures_of([case[i] for i in np.repeat(np.arange(8), counts)]))
        for name, value in expected.items():
            assert family[name][number] == pytest.approx(value, abs=1e-9, nan_ok=True)


def test_a_thousand_pictures_have_intervals() -> None:
    pictures = pictures_of(random_case(3, pictures=1000))
    found = intervals(coco_family(match_all(pictures)), np.arange(1000), Resampling(draws=200))
    assert found["AP"]["low"] < found["AP"]["value"] < found["AP"]["high"]
