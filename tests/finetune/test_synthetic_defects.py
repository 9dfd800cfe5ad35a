"""Synthetic defects on the good pictures of a labelled batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from trying import build, learn, rewrite, usable

from ssl_defect.config import validate
from ssl_defect.errors import UserError
from ssl_defect.finetune import TASKS
from ssl_defect.finetune.box_task import with_parts
from ssl_defect.finetune.segmentation import Options, blemished, smaller
from ssl_defect.finetune.synthetic import Synthetic, add_defects, add_drawn
from ssl_defect.train.batches import Batches


def batch(count: int = 12, bright: float = 0.3) -> tuple[Tensor, Tensor]:
    """Grey noise; every third picture has a labelled defect that is `bright` brighter."""
    images = 0.4 + 0.02 * torch.rand(count, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(count, 1, 48, 48, dtype=torch.uint8)
    for number in range(0, count, 3):
        masks[number, 0, 10:14, 20 : 21 + number] = 1
    return images + bright * masks, masks


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("copied", [0.0, 0.5, 1.0])
def test_every_good_picture_gets_a_defect_and_no_other_changes(copied: float) -> None:
    images, masks = batch()
    before = images.clone(), masks.clone()
    shown, drawn = add_defects(images, masks, Synthetic(share=1.0, copied=copied), seeded())
    assert torch.equal(images, before[0])  # the batch itself is not touched
    assert torch.equal(masks, before[1])
    defective = (masks.flatten(1) > 0).any(1)
    assert torch.equal(shown[defective], images[defective])
    assert torch.equal(drawn[defective], masks[defective].float())
    assert bool(drawn.flatten(1).any(1).all())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert float(shown.min()) >= 0
    assert float(shown.max()) <= 1


def test_a_copy_changes_nothing_outside_its_mask_and_keeps_its_difference() -> None:
    images, masks = batch()
    shown, drawn = add_defects(images, masks, Synthetic(share=1.0, copied=1.0), seeded())
    good = ~(masks.flatten(1) > 0).any(1)
    outside = (drawn == 0) & good[:, None, None, None]
    assert torch.equal(shown[outside], images[outside])
    sizes = {int(mask.sum()) for mask in masks if mask.any()}
    assert {int(mask.sum()) for mask in drawn[good]} <= sizes
    middle = (shown - images)[(drawn == 1) & good[:, None, None, None]]
    assert 0.15 < float(middle.mean()) < 0.31  # softened at its edge
    assert float(middle.min()) > 0.05


def test_without_a_labelled_defect_all_are_drawn() -> None:
    images, masks = batch()
    good = ~(masks.flatten(1) > 0).any(1)
    _, drawn = add_defects(images[good], masks[good], Synthetic(share=1.0, copied=1.0), seeded())
    assert bool(drawn.flatten(1).any(1).all())


def test_the_share_is_kept_and_none_means_none() -> None:
    images, masks = batch(300)
    good = ~(masks.flatten(1) > 0).any(1)
    _, drawn = add_defects(images, masks, Synthetic(share=0.4, copied=0.0), seeded())
    assert drawn[good].flatten(1).any(1).float().mean().item() == pytest.approx(0.4, abs=0.08)
    shown, drawn = add_defects(images, masks, Synthetic(), seeded())
    assert torch.equal(shown, images)
    assert torch.equal(drawn, masks.float())


def test_the_same_generator_gives_the_same_defects() -> None:
    one, two, other = (add_defects(*batch(), Synthetic(share=1.0), seeded(s))[0] for s in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_defect_that_fills_the_picture_and_one_of_a_pixel_can_be_copied() -> None:
    images, masks = batch(4)
    masks[0], masks[3] = 1, 0
    masks[3, 0, 0, 47] = 1
    for seed in range(8):
        shown, drawn = add_defects(images, masks, Synthetic(share=1.0, copied=1.0), seeded(seed))
        assert bool(torch.isfinite(shown).all())
        assert {int(mask.sum()) for mask in drawn[1:3]} <= {1, 48 * 48}


SEGMENT = {"task": "segmentation", "steps": 40, "eval_every": 20, "learning_rate": 1e-2}


def test_a_detector_without_one_labelled_defect(make_case: Callable, tmp_path: Path) -> None:
    options = {"decoder_width": 8, "synthetic": {"share": 0.5, "kinds": ["blob", "patch"]}}
    case = make_case(kinds=("good", "spot"), options=options, **SEGMENT)
    rewrite(case, lambda _, sample: replace(sample, split="test") if sample.label else sample)
    rows, found = learn(case, tmp_path)
    assert roc_auc_score(case.store.labels[rows], found["score"]) > 0.8
    inside = case.store.masks[rows] > 0
    assert found["map"][inside].mean() > 2 * found["map"][~inside].mean()
    history = (tmp_path / "history.csv").read_text().splitlines()
    assert (
        "pixel AP" in (tmp_path / "finetune.json").read_text()
    )  # on synthetic defects: the good ones alone say nothing
    assert len(history) == 3


def test_without_synthetic_defects_it_is_refused(make_case: Callable) -> None:
    case = make_case(kinds=("good", "spot"), **SEGMENT)
    rewrite(case, lambda _, sample: replace(sample, split="test") if sample.label else sample)
    with pytest.raises(UserError, match=r"finetune\.options\.synthetic\.share"):
        usable(case)


def test_partners_get_no_defects() -> None:
    images = torch.cat([batch()[0], torch.full((12, 1, 48, 48), 0.5)], dim=1)
    shown, masks = blemished(images, 1, batch()[1], Synthetic(share=1.0), seeded())
    assert torch.equal(shown[:, 1:], images[:, 1:])
    assert not torch.equal(shown[:, :1], images[:, :1])
    assert bool(masks.flatten(1).any(1).all())


def test_the_final_map_teaches_the_coarser_levels(make_case: Callable) -> None:
    weights = {"deep_supervision": 0.5, "self_distillation": 2.0, "decoder_width": 8}
    case = make_case(task="segmentation", options=weights)
    own = Batches(case.store, np.arange(12), 12, 0, masks=True, targets=case.store.labels)
    logs = build(case)(own.gather(np.arange(12)) | {"generator": seeded()}, 0.0)
    plain = logs["dice"] + 20 * logs["focal"] + 0.5 * logs["deep"]
    assert logs["loss"].item() == pytest.approx((plain + 2 * logs["self"]).item(), rel=1e-5)
    assert logs["self"] > 0
    level = torch.zeros(2, 1, 4, 4)
    logits = torch.arange(128.0).reshape(2, 1, 8, 8).requires_grad_(True)
    taught = smaller(logits, level)
    assert not taught.requires_grad
    assert taught[0, 0, 0, 0] == pytest.approx((0 + 1 + 8 + 9) / 4)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"self_distillation": 1.0}, "needs deep_supervision"),
        (
            {"target": "defect", "losses": {"dice": 1.0}, "synthetic": {"share": 0.5}},
            "synthetic defects are of no class",
        ),
        ({"synthetic": {"share": 1.5}}, "less than or equal to 1"),
        ({"synthetic": {"kinds": ["hole"]}}, "blob"),
    ],
)
def test_options_that_do_not_go_together(options: dict, line: str) -> None:
    with pytest.raises(UserError, match=line):
        validate(Options, options, "here", "finetune.options")


def test_drawn_defects_alone_leave_the_defective_pictures_and_their_masks_out() -> None:
    images, masks = batch()
    defective = (masks.flatten(1) > 0).any(1)
    shown, drawn = add_drawn(images, defective, Synthetic(share=1.0, copied=1.0), seeded())
    assert torch.equal(shown[defective], images[defective])
    assert not drawn[defective].any()
    assert bool(drawn[~defective].flatten(1).any(1).all())


def test_a_classifier_without_one_labelled_defect(make_case: Callable, tmp_path: Path) -> None:
    options = {"synthetic": {"share": 0.5, "kinds": ["blob", "patch"]}}
    case = make_case(kinds=("good", "spot"), options=options, **SEGMENT | {"task": "classification", "steps": 80})
    rewrite(case, lambda _, sample: replace(sample, split="test") if sample.label else sample)
    rows, found = learn(case, tmp_path)
    assert roc_auc_score(case.store.labels[rows], found["score"]) > 0.7
    assert '"validation_metric": "AUROC"' in (tmp_path / "finetune.json").read_text()


def test_new_defects_get_boxes_and_parts_beside_those_that_are_there() -> None:
    boxes, classes = torch.zeros(3, 1, 4), torch.full((3, 1), -1)
    boxes[0, 0], classes[0, 0] = torch.tensor([1.0, 2, 3, 4]), 1
    parts = torch.zeros(3, 1, 8, 8, dtype=torch.int64)
    masks = torch.zeros(3, 1, 8, 8)
    masks[1, 0, 0, 0] = masks[1, 0, 4:6, 5] = 1
    moved, named, numbered = with_parts(boxes, classes, parts, masks)
    assert moved.shape == (3, 2, 4)
    assert named.tolist() == [[1, -1], [1, 1], [-1, -1]]
    assert moved[0, 0].tolist() == [1, 2, 3, 4]
    assert {tuple(box) for box in moved[1].tolist()} == {(0, 0, 1, 1), (5, 4, 6, 6)}
    assert numbered is not None
    assert sorted(numbered[1].unique().tolist()) == [0, 1, 2]
    assert not parts.any()  # the batch itself is not touched


@pytest.mark.parametrize(("task", "more"), [("detection", {"architecture": "fcos"}), ("instance", {})])
def test_boxes_are_learnt_from_synthetic_defects_alone(make_case: Callable, task: str, more: dict) -> None:
    case = make_case(kinds=("good", "spot"), task=task, options={"synthetic": {"share": 1.0}, "width": 32} | more)
    rewrite(case, lambda _, sample: replace(sample, split="test") if sample.label else sample)
    task_ = build(case)
    rows = usable(case)
    assert not case.store.labels[rows].any()
    extras = task_.extras(case.store, task_.views)
    own = Batches(case.store, rows, 6, 0, masks=True, targets=case.store.labels, extras=extras)
    logs = task_(own(0) | {"generator": seeded()}, 0.0)
    assert bool(torch.isfinite(logs["loss"]))
    assert logs["box"] > 0  # there is a box to learn, though no picture came with one


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_synthetic_defects_are_of_no_class(task: str) -> None:
    kind = import_module(TASKS[task][0]).Options
    with pytest.raises(UserError, match="synthetic defects are of no class"):
        validate(kind, {"target": "defect", "synthetic": {"share": 0.5}}, "here", "finetune.options")
