"""Losses against values computed by hand and other implementations; what all promise is in test_loss_tables.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from ssl_defect.finetune.losses import (
    bce,
    cross_entropy,
    focal_loss,
    giou_loss,
    huber,
    l1,
    l2,
    label_focal_loss,
)
from ssl_defect.nets.mask_losses import binary_focal_loss, dice_loss


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # p = (1/4, 3/4), (1/2, 1/2)
    target = torch.tensor([0, 1])
    assert cross_entropy(logits, target) == pytest.approx((math.log(4) + math.log(2)) / 2)
    weighted = cross_entropy(logits, target, torch.tensor([3.0, 1.0]))
    assert weighted == pytest.approx((3 * math.log(4) + math.log(2)) / 4)
    smoothed = cross_entropy(logits[:1], target[:1], smoothing=0.2)
    assert smoothed == pytest.approx(0.9 * math.log(4) + 0.1 * math.log(4 / 3))


def test_cross_entropy_of_weightless_classes_is_zero() -> None:
    loss = cross_entropy(draw(3, 2), torch.tensor([1, 1, 1]), torch.tensor([1.0, 0.0]))
    assert loss == 0


def test_focal_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert focal_loss(logits, torch.tensor([1]), gamma=2.0) == pytest.approx((1 / 4) ** 2 * math.log(4 / 3))
    assert focal_loss(logits, torch.tensor([0]), gamma=1.0) == pytest.approx(3 / 4 * math.log(4))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0])])
def test_focal_without_focus_is_cross_entropy(weights: Tensor | None) -> None:
    logits, target = draw(8, 3), torch.arange(8) % 3
    torch.testing.assert_close(
        focal_loss(logits, target, 0.0, weights), cross_entropy(logits, target, weights), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_binary_focal_equals_torchvision(alpha: float | None, gamma: float) -> None:
    logits, target = 3 * draw(4, 1, 5, 5), (draw(4, 1, 5, 5, seed=1) > 0.5).double()
    reference = sigmoid_focal_loss(logits, target, -1 if alpha is None else alpha, gamma, "mean")
    torch.testing.assert_close(binary_focal_loss(logits, target, gamma, alpha), reference, atol=1e-12, rtol=0)


def test_binary_focal_agrees_with_two_classes() -> None:
    logits, target = draw(16), torch.arange(16) % 2
    two = torch.stack([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(focal_loss(two, target), binary_focal_loss(logits, target), atol=1e-12, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)])
def test_cross_entropy_equals_torch(weights: Tensor | None, smoothing: float) -> None:
    logits, target = draw(8, 3), torch.arange(8) % 3
    torch.testing.assert_close(
        cross_entropy(logits, target, weights, smoothing),
        F.cross_entropy(logits, target, weights, label_smoothing=smoothing),
        atol=1e-12,
        rtol=0,
    )
    soft = draw(8, 3, seed=1).softmax(1)
    torch.testing.assert_close(
        cross_entropy(logits, soft, None, smoothing),
        F.cross_entropy(logits, soft, label_smoothing=smoothing),
        atol=1e-12,
        rtol=0,
    )


@pytest.mark.parametrize("loss", [cross_entropy, lambda x, y, w: focal_loss(x, y, 1.5, w)])
def test_soft_targets_that_are_hard_are_hard(loss) -> None:
    logits, target, weights = draw(8, 3), torch.arange(8) % 3, torch.tensor([0.2, 1.0, 3.0])
    soft = F.one_hot(target, 3).float()
    torch.testing.assert_close(loss(logits, soft, weights), loss(logits, target, weights), atol=1e-12, rtol=0)


@pytest.mark.parametrize("loss", [cross_entropy, focal_loss])
def test_the_loss_of_a_mixture_is_the_mixture_of_losses(loss) -> None:
    logits, one, two = draw(8, 3), torch.arange(8) % 3, torch.arange(8) * 2 % 3
    mixed = 0.3 * F.one_hot(one, 3) + 0.7 * F.one_hot(two, 3)
    expected = 0.3 * loss(logits, one) + 0.7 * loss(logits, two)
    torch.testing.assert_close(loss(logits, mixed), expected, atol=1e-6, rtol=0)


def test_what_is_ignored_counts_in_no_mean() -> None:
    logits, target = draw(4, 3), torch.tensor([0, -1, 2, -1])
    for loss in (cross_entropy, focal_loss):
        torch.testing.assert_close(loss(logits, target), loss(logits[[0, 2]], target[[0, 2]]), atol=1e-12, rtol=0)


def test_bce_equals_torch_and_weighs_by_class() -> None:
    logits, target = draw(6, 3), draw(6, 3, seed=1).sigmoid()
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=0)
    torch.testing.assert_close(bce(logits, target), each.mean(), atol=1e-12, rtol=0)
    weighted = bce(logits, target, torch.tensor([1.0, 0.0, 3.0]))
    torch.testing.assert_close(weighted, (each[0] + 3 * each[2]) / 4, atol=1e-12, rtol=0)
    assert bce(logits, target, torch.zeros(3)) == 0
    smoothed = bce(torch.tensor([math.log(3.0)]), torch.tensor([1]), smoothing=0.2)
    assert smoothed == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_of_labels(alpha: float | None) -> None:
    logits, target = 3 * draw(6, 3), (draw(6, 3, seed=1) > 0.5).double()
    each = sigmoid_focal_loss(logits, target, -1 if alpha is None else alpha, 1.5, "none").mean(dim=0)
    torch.testing.assert_close(label_focal_loss(logits, target, 1.5, alpha), each.mean(), atol=1e-12, rtol=0)
    weighted = label_focal_loss(logits, target, 1.5, alpha, torch.tensor([1.0, 0.0, 3.0]))
    torch.testing.assert_close(weighted, (each[0] + 3 * each[2]) / 4, atol=1e-12, rtol=0)
    half = label_focal_loss(logits, 0.5 + 0 * target, 1.5, alpha)
    sides = [label_focal_loss(logits, value + 0 * target, 1.5, alpha) for value in (0, 1)]
    torch.testing.assert_close(half, (sides[0] + sides[1]) / 2, atol=1e-12, rtol=0)


def test_losses_of_numbers_by_hand() -> None:
    found, target = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 2.5, 2.0], dtype=torch.float64)
    assert l1(found, target) == pytest.approx((0.5 + 3) / 3)
    assert l2(found, target) == pytest.approx((0.25 + 9) / 3)
    assert huber(found, target, 2.0) == pytest.approx((0.125 + 2 * (3 - 1)) / 3)


def boxes(seed: int, count: int = 50) -> Tensor:
    start = 30 * draw(count, 2, seed=seed).abs()
    return torch.cat([start, start + 1 + 20 * draw(count, 2, seed=seed + 1).abs()], dim=1)


def test_giou_equals_torchvision() -> None:
    one, two = boxes(0), boxes(2)
    torch.testing.assert_close(giou_loss(one, two), generalized_box_iou_loss(one, two, "mean"), atol=1e-9, rtol=0)
    both = giou_loss(one.float(), two.float())
    torch.testing.assert_close(both, generalized_box_iou_loss(one, two, "mean").float(), atol=1e-6, rtol=0)


def test_giou_by_hand() -> None:
    one, two = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3]])
    assert giou_loss(one, two) == pytest.approx(1 - 1 / 7 + 2 / 9, abs=1e-6)
    assert giou_loss(one, one) == pytest.approx(0, abs=1e-6)
    assert giou_loss(one, one + 1e6) == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("box", [[5.0, 5, 5, 5], [5.0, 5, 5, 9], [9.0, 9, 5, 5], [0.0, 0, 0, 0]])
@pytest.mark.parametrize("target", [[5.0, 5, 5, 5], [1.0, 1, 3, 8]])
def test_giou_of_boxes_without_an_area_is_finite(box: list[float], target: list[float]) -> None:
    found = torch.tensor([box], requires_grad=True)
    loss = giou_loss(found, torch.tensor([target]))
    loss.backward()
    assert found.grad is not None
    assert bool(torch.isfinite(found.grad).all())
    assert 0 <= loss <= 2


def test_giou_of_no_box_is_zero() -> None:
    none = torch.zeros(0, 4, requires_grad=True)
    giou_loss(none, torch.zeros(0, 4)).backward()
    assert giou_loss(none, torch.zeros(0, 4)) == 0


def test_dice_by_hand() -> None:
    p, g = torch.tensor([[[0.5, 0.25]]]), torch.tensor([[[1, 0]]])
    expected = 1 - (2 * 0.5 + 1) / (0.25 + 0.0625 + 1 + 1)
    assert dice_loss(torch.logit(p), g) == pytest.approx(expected)
    assert dice_loss(torch.logit(p), g, smooth=0.0) == pytest.approx(1 - 1 / 1.3125)


def test_dice_over_batch_and_per_image_differ_as_defined() -> None:
    logits = torch.tensor([[[40.0, -40.0]], [[-40.0, -40.0]]])  # the first found, the second missed
    target = torch.tensor([[[1, 0]], [[1, 1]]])
    assert dice_loss(logits, target, smooth=0.0) == pytest.approx(1 - 2 / (1 + 3))
    assert dice_loss(logits, target, smooth=0.0, per_image=True) == pytest.approx((0 + 1) / 2)


@pytest.mark.parametrize("per_image", [False, True])
def test_dice_on_empty_masks_pulls_down_and_reaches_zero(per_image: bool) -> None:
    logits = torch.zeros(2, 1, 4, 4, requires_grad=True)
    empty = torch.zeros(2, 1, 4, 4)
    dice_loss(logits, empty, per_image=per_image).backward()
    assert logits.grad is not None
    assert bool((logits.grad > 0).all())
    assert dice_loss(torch.full((2, 1, 4, 4), -60.0), empty, per_image=per_image) == 0


@pytest.mark.parametrize("loss", [dice_loss, binary_focal_loss])
def test_one_pixel_found_is_better_than_missed_and_both_than_misplaced(loss) -> None:
    target = torch.zeros(1, 1, 64, 64)
    target[0, 0, 10, 20] = 1
    found, missed = torch.full_like(target, -12.0), torch.full_like(target, -12.0)
    found[0, 0, 10, 20] = 12.0
    misplaced = missed.clone()
    misplaced[0, 0, 40, 40] = 12.0
    assert loss(found, target) < 1e-3
    assert loss(found, target) < loss(missed, target) < loss(misplaced, target)
    slope = torch.autograd.functional.jacobian(lambda x: loss(x, target), torch.full_like(target, -4.6))
    assert slope[0, 0, 10, 20] < 0
    assert slope[0, 0, 40, 40] > 0


def test_dice_counts_every_pixel_of_a_large_bfloat16_mask() -> None:
    logits = torch.full((8, 1, 128, 128), 40.0, dtype=torch.bfloat16)
    assert dice_loss(logits, torch.ones(8, 1, 128, 128)) == pytest.approx(0, abs=1e-6)
