"""What every architecture of boxes promises, on both kinds of encoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import squares
import torch
from torchvision.ops import box_iou

from ssl_defect.artifacts import read_json, write_json
from ssl_defect.config import validate
from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.evaluate.stage import evaluate
from ssl_defect.finetune import detection, instance
from ssl_defect.finetune.box_task import BoxTask
from ssl_defect.finetune.mosaic import mixup, mosaic
from ssl_defect.finetune.stage import finetune
from ssl_defect.nets.detector import load_detector, save_detector

KINDS = ("faster_rcnn", "ssd", "retinanet", "fcos", "yolox", "instance")
BACKBONES = ("test_resnet", "test_vit")
ROWS = np.arange(6)  # two good, two with squares, two with bars
both = pytest.mark.parametrize("backbone", BACKBONES)
each = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def store() -> Store:
    return squares.make_store()


def make(store: Store, kind: str, backbone: str = "test_resnet", **options: Any) -> BoxTask:
    name = "instance" if kind == "instance" else "detection"
    chosen = {} if kind == "instance" else {"architecture": kind}
    return squares.make_task(store, name, backbone, **chosen, **options)


@both
@each
def test_losses_are_finite_and_reach_encoder_and_head(kind: str, backbone: str, store: Store) -> None:
    task = make(store, kind, backbone)
    logs = task(squares.batch_of(task, store, ROWS), 0.0)
    assert set(logs) == {"loss", *task.losses}
    assert all(value.ndim == 0 and torch.isfinite(value) for value in logs.values())
    expected = sum(weight * logs[name].item() for name, weight in task.losses.items())
    assert logs["loss"].item() == pytest.approx(expected, rel=1e-5)
    logs["loss"].backward()
    for part in (task.detector.encoder, task.detector.head):
        assert np.mean([p.grad is not None and bool(p.grad.any()) for p in part.parameters()]) > 0.5


@each
def test_pictures_without_boxes_teach_that_there_is_nothing(kind: str, store: Store) -> None:
    task = make(store, kind)
    batch = squares.batch_of(task, store, np.array([0, 3, 6]))
    assert (batch["box_class"] == -1).all()
    logs = task(batch, 0.0)
    assert logs["loss"] > 0
    assert torch.isfinite(logs["loss"])
    assert logs["box"] == 0
    logs["loss"].backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in task.parameters())


@each
def test_losses_are_float32_under_bfloat16(kind: str, store: Store) -> None:
    task = make(store, kind)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task(squares.batch_of(task, store, ROWS), 0.0)["loss"]
        found = task.detector.eval().predict(torch.rand(2, 1, 64, 64))
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert {value.dtype for value in found.values()} == {torch.float32, torch.int64}


@both
@each
def test_predictions_have_fixed_shapes_and_do_not_depend_on_the_batch(kind: str, backbone: str, store: Store) -> None:
    detector = make(store, kind, backbone, detections=7).detector.eval()
    x = torch.from_numpy(store.images[:4]).permute(0, 3, 1, 2) / 255
    found = detector.predict(x)
    shapes = {"boxes": (4, 7, 4), "box_scores": (4, 7), "box_classes": (4, 7), "score": (4,), "map": (4, 64, 64)}
    shapes |= {"box_masks": (4, 7, 28, 28)} if kind == "instance" else {}
    assert {name: tuple(value.shape) for name, value in found.items()} == shapes
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    for name in {"score", "map", "box_scores", "box_masks"} & set(found):
        assert 0 <= found[name].min() <= found[name].max() <= 1
    assert (found["box_scores"].diff(dim=1) <= 0).all()
    assert ((found["box_classes"] == 0) == (found["box_scores"] == 0)).all()
    assert torch.equal(found["score"], found["box_scores"][:, 0])
    alone = torch.cat([detector.predict(picture[None])["score"] for picture in x])
    torch.testing.assert_close(alone, found["score"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "backbone"), [*((kind, "test_resnet") for kind in KINDS), ("fcos", "test_vit")])
def test_some_steps_find_the_squares(kind: str, backbone: str, store: Store, tmp_path: Path) -> None:
    """Trained on four pictures, it finds nearly all of their squares and bars; and its file does the same."""
    task = make(store, kind, backbone, crop=1.0, turns=False)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    found = 0.0
    batch = squares.batch_of(task, store, np.array([0, 1, 2, 4]))
    for step in range(100):
        loss = task(batch, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 9 and (found := recall(task.detector.eval().predict(batch["image"] / 255), batch)) >= 0.8:
            break
        task.train()
    assert found >= 0.8
    task.eval()
    with torch.no_grad():
        look = task.validation([batch])
    assert look.metric == "AP50"
    assert look.value > 0.1
    save_detector(tmp_path / "model.safetensors", task.detector)
    again = load_detector(tmp_path / "model.safetensors").predict(batch["image"] / 255)
    for name, value in task.detector.predict(batch["image"] / 255).items():
        assert torch.equal(value, again[name]), name


def recall(found: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> float:
    """Share of the boxes that one of as many best detections overlaps by more than a half."""
    hits = []
    for boxes, true, classes in zip(found["boxes"], batch["boxes"], batch["box_class"], strict=True):
        there = true[classes >= 0]
        if len(there):
            hits += (box_iou(there, boxes[: len(there)]).amax(dim=1) > 0.5).tolist()
    return float(np.mean(hits))


@both
def test_validation_does_not_depend_on_the_batches(backbone: str, store: Store) -> None:
    task = make(store, "fcos", backbone).eval()
    whole = squares.batch_of(task, store, np.arange(9))
    parts = [{k: v[rows] for k, v in whole.items() if k != "generator"} for rows in (slice(0, 4), slice(4, 9))]
    with torch.no_grad():
        one, two = task.validation([whole]), task.validation(parts)
        good = task.validation([{k: v[::3] for k, v in whole.items() if k != "generator"}])
    assert one.metric == two.metric == "AP50"
    assert one.value == pytest.approx(two.value, abs=1e-5)
    assert good.metric == "-loss"
    assert good.value == -good.loss


@pytest.mark.parametrize("kind", ["detection", "instance"])
def test_perfect_detections_score_one_in_validation(kind: str, store: Store) -> None:
    task = make(store, "fcos" if kind == "detection" else kind, target="defect")
    assert task.detector.spec.classes == ["good", "bar", "square"]
    batch = squares.batch_of(task, store, ROWS)
    true = {name: batch[name].numpy() for name in ("boxes", "box_class", "parts") if name in batch}
    found = {"boxes": true["boxes"], "box_classes": true["box_class"]}
    found |= {"box_scores": (true["box_class"] > 0).astype(np.float32)}
    found |= {"box_masks": np.ones((*found["box_scores"].shape, 28, 28), np.float32)}
    task.detector.forward = lambda x: {name: torch.from_numpy(value) for name, value in found.items()}  # type: ignore
    task.eval()
    with torch.no_grad():
        assert task.validation([batch]).value == pytest.approx(1.0)
        found["box_classes"] = np.where(true["box_class"] > 0, 3 - true["box_class"], 0)
        assert task.validation([batch]).value == 0


def test_the_map_is_the_score_of_the_best_box_over_a_pixel(store: Store) -> None:
    head = make(store, "fcos", detections=3).detector.head
    boxes = torch.tensor([[[2.0, 4, 6, 8], [4, 4, 10, 5], [0, 0, 0, 0]], [[0.0, 0, 0, 0]] * 3])
    scores = torch.tensor([[0.9, 0.5, 0.0], [0.0, 0.0, 0.0]])
    found = head.predict({"boxes": boxes, "box_scores": scores, "box_classes": (scores > 0).long()})
    expected = torch.zeros(2, 64, 64)
    expected[0, 4, 4:10] = 0.5
    expected[0, 4:8, 2:6] = 0.9
    assert torch.equal(found["map"], expected)
    assert found["score"].tolist() == pytest.approx([0.9, 0])


def test_options_name_the_losses_that_are_accepted() -> None:
    options = {"architecture": "fcos", "losses": {"centerness": 0.5, "l1": 1.0}}
    with pytest.raises(UserError, match="fcos has no 'l1'; accepted: class, box, centerness"):
        validate(detection.Options, options, "recipe", "finetune.options")
    with pytest.raises(UserError, match="all weights are 0"):
        validate(detection.Options, options | {"losses": dict.fromkeys(("class", "box", "centerness"), 0)}, "recipe")
    with pytest.raises(UserError, match="Mask R-CNN has no 'dice'"):
        validate(instance.Options, {"losses": {"dice": 1}}, "recipe")
    with pytest.raises(UserError, match="architecture"):
        validate(detection.Options, {"architecture": "yolo"}, "recipe")


def test_weights_of_losses(store: Store) -> None:
    task = make(store, "yolox", losses={"l1": 2.0, "box": 0.0})
    assert task.losses == {"class": 1, "box": 0, "objectness": 1, "l1": 2}


def test_usable_rows(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.masks is not None
    options = detection.Options()
    masks = store.masks.copy()
    masks[1] = 0
    partly = replace(store, masks=masks)
    assert detection.TASK.usable(partly, np.arange(6), options).tolist() == [0, 2, 3, 4, 5]
    assert "1 defective images without a box are left out" in capsys.readouterr().err
    for kind, bare in ((detection, replace(store, masks=None)), (instance, replace(store, masks=0 * masks))):
        with pytest.raises(UserError, match="none of the 6 labelled training images has"):
            kind.TASK.usable(bare, np.arange(6), kind.Options())
    with pytest.raises(UserError, match="instance needs masks"):
        instance.TASK.usable(replace(store, masks=None), np.arange(6), instance.Options())


def test_annotated_boxes_are_enough_for_detection() -> None:
    samples = [Sample("a.png", width=64, height=64), Sample("b.png", "", 1, "dent", width=128, height=64)]
    samples[1] = replace(samples[1], boxes="10 5 30 25 dent; 100 40 128 64 scratch")
    store = Store(Path(), samples, np.zeros((2, 64, 64, 1), np.uint8), None)
    options = detection.Options(target="defect")
    assert detection.TASK.classes(store, options) == ["good", "dent", "scratch"]
    assert detection.TASK.usable(store, np.arange(2), options).tolist() == [0, 1]
    assert detection.TASK.strata(store, options).tolist() == [0, 1]
    extras = detection.TASK.extras(store, options)
    assert extras is not None
    batch = extras(np.array([1, 0]))
    assert batch["boxes"][0].tolist() == [[5, 5, 15, 25], [50, 40, 64, 64]]
    assert batch["box_class"].tolist() == [[1, 2], [-1, -1]]


def windows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures with two rectangles each, 1 inside, and their boxes."""
    rng = np.random.default_rng(0)
    images, boxes = torch.zeros(6, 1, 32, 32), torch.zeros(6, 2, 4)
    for number in range(6):
        for place, left in enumerate((1, 17)):
            y, x, height, width = rng.integers(1, 15), left + rng.integers(0, 3), *rng.integers(3, 11, 2)
            images[number, 0, y : y + height, x : x + width] = 1
            boxes[number, place] = torch.tensor([x, y, x + width, y + height])
    return images, boxes, torch.tensor([[1, 2]] * 6)


def test_mosaic_boxes_lie_on_what_they_show() -> None:
    images, boxes, classes = windows()
    mixed, moved, kept = mosaic(images, boxes, classes, torch.Generator().manual_seed(0))
    assert mixed.shape == images.shape
    assert moved.shape == (6, 8, 4)
    assert kept.shape == (6, 8)
    assert (kept > 0).sum() >= 6
    for picture, places, numbers in zip(mixed[:, 0], moved, kept, strict=True):
        covered = torch.zeros_like(picture)
        for x1, y1, x2, y2 in places[numbers > 0].int().tolist():
            assert (picture[y1:y2, x1:x2] == 1).all()
            covered[y1:y2, x1:x2] = 1
        assert covered.sum() >= 0.6 * picture.sum()  # the rest is what shows less than a quarter


def test_mixup_keeps_both_boxes() -> None:
    images, boxes, classes = windows()
    mixed, moved, kept = mixup(images, boxes, classes, torch.Generator().manual_seed(0))
    for picture, places in zip(mixed[:, 0], moved, strict=True):
        for x1, y1, x2, y2 in places.int().tolist():
            assert picture[y1:y2, x1:x2].min() >= 0.5
    assert kept.shape == (6, 4)


def test_mosaic_and_mixup_end_before_the_end(store: Store) -> None:
    task = make(store, "yolox", mosaic=1.0, mixup=1.0, plain_end=0.2)
    seen: list[int] = []
    task.head.losses = lambda encoder, images, boxes, classes, parts: (  # type: ignore[method-assign]
        seen.append(boxes.shape[1]) or {name: torch.zeros(()) for name in task.losses}
    )
    most = squares.batch_of(task, store, ROWS)["boxes"].shape[1]
    for progress in (0.0, 0.79, 0.81, 1.0):
        task(squares.batch_of(task, store, ROWS), progress)
    assert seen == [8 * most, 8 * most, most, most]


@pytest.mark.parametrize(
    ("name", "options"), [("detection", {"architecture": "fcos", "target": "defect"}), ("instance", {})]
)
def test_the_stages_take_it(name: str, options: dict, make_case: Callable, tmp_path: Path) -> None:
    small = {"width": 32, "detections": 10}
    case = make_case(task=name, steps=4, eval_every=2, batch_size=4, count=48, options=options | small)
    finetune(case.recipe, case.prepared, case.pretrained, tmp_path / "finetune")
    (tmp_path / "evaluate").mkdir()
    write_json(case.prepared / "audit.json", {})
    changes = {"embeddings": False, "bootstrap": 100, "gradcam": 2}
    recipe = case.recipe.model_copy(update={"evaluate": case.recipe.evaluate.model_copy(update=changes)})
    evaluate(recipe, case.prepared, case.pretrained, tmp_path / "finetune", tmp_path / "evaluate")
    assert {path.name for path in (tmp_path / "evaluate").iterdir()} >= {"metrics.json", "maps.npy", "gradcam.npz"}
    metrics = read_json(tmp_path / "evaluate" / "metrics.json")
    block = metrics["task"]
    assert set(block["metrics"]) == set(block["names"])
    assert {"AP", "AP50", "AP75", "AR"} <= set(block["metrics"])
    assert ("box_AP" in block["metrics"]) == (name == "instance")
    assert set(block["classes"]) == ({"scratch", "spot"} if name == "detection" else set())
    assert metrics["image"]["auroc"]["value"] is not None
    assert metrics["pixel"]["auroc"]["value"] is not None
