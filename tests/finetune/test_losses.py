"""Every loss against hand-computed values, a reference implementation and its own gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from ssl_defect.finetune.losses import cross_entropy, focal_loss
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


def classes(logits: Tensor) -> Tensor:
    return torch.arange(len(logits)) % logits.shape[1]


def pixels(logits: Tensor) -> Tensor:
    return (torch.arange(logits.numel()).reshape(logits.shape) % 3 == 0).to(logits)


CASES = {
    "cross-entropy": lambda x: cross_entropy(x, classes(x), torch.tensor([1.0, 2.0, 0.5]), 0.1),
    "focal": lambda x: focal_loss(x, classes(x), 2.0, torch.tensor([1.0, 2.0, 0.5])),
    "focal, gamma < 1": lambda x: focal_loss(x, classes(x), 0.5),
    "binary focal, gamma < 1": lambda x: binary_focal_loss(x, pixels(x), 0.5),
    "binary focal": lambda x: binary_focal_loss(x, pixels(x), 2.0, 0.25),
    "dice": lambda x: dice_loss(x, pixels(x)),
    "dice per image": lambda x: dice_loss(x, pixels(x), per_image=True),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str) -> None:
    assert torch.autograd.gradcheck(CASES[name], draw(4, 3).requires_grad_())


@pytest.mark.parametrize("name", CASES)
@given(scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_finite_and_never_negative(name: str, scale: float, seed: int) -> None:
    logits = (scale * draw(6, 3, seed=seed, dtype=torch.float32)).requires_grad_()
    loss = CASES[name](logits)
    loss.backward()
    assert loss >= 0
    assert bool(torch.isfinite(loss))
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_logits_lose_nothing_in_the_loss(name: str) -> None:
    logits = draw(64, 3, dtype=torch.float32).bfloat16()
    loss = CASES[name](logits)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, CASES[name](logits.float()), atol=0, rtol=0)


def test_dice_counts_every_pixel_of_a_large_bfloat16_mask() -> None:
    logits = torch.full((8, 1, 128, 128), 40.0, dtype=torch.bfloat16)
    assert dice_loss(logits, torch.ones(8, 1, 128, 128)) == pytest.approx(0, abs=1e-6)
