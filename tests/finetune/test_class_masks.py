"""Segmentation beyond one U-Net for one defect: classes, decoders, pairs and deep supervision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, jaccard_score, roc_auc_score
from torch.nn import functional as F
from trying import RATES, build, learn

from ssl_defect.finetune.pixel_ap import average_precision
from ssl_defect.finetune.segmentation import shrink
from ssl_defect.nets.decoders import DECODERS

Make = Callable[..., "Case"]  # noqa: F821 - see conftest


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_learns_which_class_a_pixel_has(backbone: str, make_case: Make, tmp_path: Path) -> None:
    options = {"target": "defect", "decoder_width": 8, "deep_supervision": 0.3}
    case = make_case(
        task="segmentation", backbone=backbone, count=150, steps=100, eval_every=25, options=options, **RATES
    )
    rows, found = learn(case, tmp_path)
    classes = np.array([case.store.classes.index(case.store.defects[row]) for row in rows])
    truth = case.store.masks[rows] * classes[:, None, None]
    called = np.where(found["map"] >= 0.5, found["class_map"], 0)
    overlap = jaccard_score(truth.ravel(), called.ravel(), average=None, labels=[0, 1, 2])
    assert overlap[0] > 0.95
    assert overlap[1:].mean() > 0.4
    assert average_precision_score(truth.ravel() > 0, found["map"].ravel()) > 0.7
    assert roc_auc_score(classes > 0, found["score"]) > 0.9


@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "unet"])
def test_every_decoder_learns_an_easy_texture(decoder: str, make_case: Make, tmp_path: Path) -> None:
    options = {"decoder": decoder, "decoder_width": 8}
    case = make_case(
        task="segmentation", kinds=("good", "spot"), count=80, steps=60, eval_every=20, options=options, **RATES
    )
    rows, found = learn(case, tmp_path)
    least = 0.3 if decoder == "fcn" else 0.5  # its finest map here has cells of 8 pixels, and the spots have 5
    assert average_precision_score(case.store.masks[rows].ravel(), found["map"].ravel()) > least


@pytest.mark.parametrize(
    ("task", "pair"), [("classification", "group"), ("classification", "golden"), ("segmentation", "group")]
)
def test_pairs_are_learnt(task: str, pair: str, make_case: Make, tmp_path: Path) -> None:
    options = {"pair": pair, **({"decoder_width": 8} if task == "segmentation" else {})}
    case = make_case(
        task=task,
        kinds=("good", "spot"),
        count=120,
        steps=60,
        eval_every=20,
        pairs=True,
        options=options,
        **RATES,
    )
    rows, found = learn(case, tmp_path)
    assert roc_auc_score(case.store.labels[rows], found["score"]) > 0.9


def test_class_masks_ignore_what_nobody_outlined(make_case: Make) -> None:
    task = build(make_case(task="segmentation", options={"target": "defect"}))
    masks = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    masks[1, 0, 1, 2] = 1
    target = task._target({"mask": masks, "target": torch.tensor([0, 2, 1])}, masks.float())
    assert (target[0] == 0).all()
    assert target[1, 1, 2] == 2
    assert target[1].sum() == 2
    assert (target[2] == -1).all()
    assert (shrink(target, (2, 2))[2] == -1).all()


@pytest.mark.parametrize(("size", "coarse"), [(8, 4), (10, 3)])
def test_a_coarse_mask_loses_no_pixel(size: int, coarse: int) -> None:
    for y in range(size):
        for x in range(size):
            mask = torch.zeros(1, 1, size, size)
            mask[0, 0, y, x] = 1
            found = shrink(mask, (coarse, coarse))
            assert found.max() == 1
            assert found[0, 0, y * coarse // size, x * coarse // size] == 1
            assert torch.equal(shrink(2 * mask[:, 0].long(), (coarse, coarse)), 2 * found[:, 0].long())
    torch.testing.assert_close(shrink(torch.ones(1, 1, size, size), (coarse, coarse)), torch.ones(1, 1, coarse, coarse))


def test_validation_of_classes_is_the_mean_average_precision_of_the_defects(make_case: Make) -> None:
    task = build(make_case(task="segmentation", options={"target": "defect"})).eval()
    draw = torch.Generator().manual_seed(0)
    masks = (torch.rand(6, 1, 32, 32, generator=draw) < 0.1).to(torch.uint8)
    numbers = torch.tensor([0, 1, 2, 1, 2, 0])
    masks[numbers == 0] = 0
    truth = masks[:, 0].long() * numbers.view(-1, 1, 1)
    logits = 2 * torch.randn(6, 3, 32, 32, generator=draw) + 2 * F.one_hot(truth, 3).permute(0, 3, 1, 2)
    parts = iter([logits[:2], logits[2:]])
    task.detector.forward = lambda images: {"logits": next(parts)}
    images = torch.zeros(6, 1, 32, 32, dtype=torch.uint8)
    batches = [
        {"image": images[part], "mask": masks[part], "target": numbers[part]} for part in (slice(0, 2), slice(2, 6))
    ]
    found, p = task.validation(batches), logits.softmax(dim=1)
    expected = [average_precision_score((truth == k).flatten(), p[:, k].flatten()) for k in (1, 2)]
    assert found.metric == "mean pixel AP"
    assert found.value == pytest.approx(np.mean(expected), abs=2e-3)
    assert average_precision(np.zeros((2, 8), np.int64)) is None


def test_deep_supervision_adds_the_mean_of_the_levels(make_case: Make) -> None:
    options = {"deep_supervision": 0.5, "crop": 1.0, "flips": False, "turns": False}
    case = make_case(task="segmentation", options=options)
    task = build(case).train()
    levels = {"level0": torch.randn(3, 1, 16, 16), "level1": torch.randn(3, 1, 8, 8)}
    outputs = {"logits": torch.randn(3, 1, 32, 32), **levels}
    task.detector.forward = lambda images: outputs
    mask = torch.from_numpy(np.array(case.store.masks[:3]))[:, None]
    batch = {"image": torch.from_numpy(np.array(case.store.images[:3])).permute(0, 3, 1, 2), "mask": mask}
    found = task(batch | {"target": torch.tensor([0, 1, 1]), "generator": torch.Generator().manual_seed(0)}, 0.0)
    parts = [
        task._losses(level, F.max_pool2d(mask.float(), 32 // level.shape[-1]))["loss"] for level in levels.values()
    ]
    assert found["deep"] == pytest.approx(sum(parts).item() / 2)
    assert found["loss"] == pytest.approx(
        task._losses(outputs["logits"], mask)["loss"].item() + 0.5 * found["deep"].item()
    )
