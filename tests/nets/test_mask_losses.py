"""Losses of masks against loops over their pixels, and the Lovász losses against their definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.nets.class_mask_losses import class_dice_loss, class_jaccard_loss, class_tversky_loss
from ssl_defect.nets.losses import LossSettings, bce, cross_entropy, focal_loss
from ssl_defect.nets.lovasz import jaccard_extension, lovasz_hinge, lovasz_softmax
from ssl_defect.nets.mask_losses import CLASS_MASK_LOSSES, MASK_LOSSES, dice_loss, jaccard_loss, tversky_loss

K = 4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def mask() -> tuple[Tensor, Tensor]:
    return draw(3, 1, 6, 5), (draw(3, 1, 6, 5, seed=1) > 1).long()


@pytest.fixture
def class_mask() -> tuple[Tensor, Tensor]:
    """Class 3 is missing, and every seventh pixel is ignored."""
    target = torch.arange(3 * 6 * 5).view(3, 6, 5)
    return draw(3, K, 6, 5), torch.where(target % 7 == 0, -1, target % 3)


def counts(p: np.ndarray, g: np.ndarray) -> tuple[float, float, float]:
    """Soft TP, FP and FN, pixel by pixel."""
    hits = false = missed = 0.0
    for one, truth in zip(p.ravel(), g.ravel(), strict=True):
        hits += one * truth
        false += one * (1 - truth)
        missed += (1 - one) * truth
    return hits, false, missed


def tversky_by_loop(p: np.ndarray, g: np.ndarray, alpha: float, beta: float, exponent: float, smooth: float) -> float:
    hits, false, missed = counts(p, g)
    return float((1 - (hits + smooth) / (hits + alpha * false + beta * missed + smooth)) ** exponent)


def dice_by_loop(p: np.ndarray, g: np.ndarray, smooth: float) -> float:
    above = below = 0.0
    for one, truth in zip(p.ravel(), g.ravel(), strict=True):
        above += 2 * one * truth
        below += one**2 + truth**2
    return 1 - (above + smooth) / (below + smooth)


def per_class(logits: Tensor, target: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Probabilities and truth of the pixels that are not ignored, of each class."""
    exp = np.exp(logits.numpy())
    p = exp / exp.sum(axis=1, keepdims=True)
    known = target.numpy() >= 0
    return [(p[:, k][known], (target.numpy() == k)[known].astype(float)) for k in range(logits.shape[1])]


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (0.5, 0.5), (1.0, 1.0), (0.0, 2.0)])
@pytest.mark.parametrize(("exponent", "smooth"), [(1.0, 1.0), (0.75, 0.0), (2.0, 3.0)])
def test_tversky_by_loop(mask: tuple, alpha: float, beta: float, exponent: float, smooth: float) -> None:
    logits, target = mask
    expected = tversky_by_loop(1 / (1 + np.exp(-logits.numpy())), target.numpy(), alpha, beta, exponent, smooth)
    assert tversky_loss(logits, target, alpha, beta, exponent, smooth) == pytest.approx(expected, abs=1e-9)


def test_tversky_by_hand() -> None:
    logits = torch.logit(torch.tensor([0.8, 0.4, 0.1]))  # hits 0.8 + 0.4, false 0.1, missed 0.2 + 0.6
    expected = 1 - 1.2 / (1.2 + 0.3 * 0.1 + 0.7 * 0.8)
    assert tversky_loss(logits, torch.tensor([1, 1, 0]), smooth=0.0) == pytest.approx(expected)


def test_hard_jaccard_equals_scikit_learn(mask: tuple) -> None:
    logits, target = mask
    found = (logits > 0).long()
    expected = 1 - jaccard_score(target.flatten(), found.flatten())
    hard = 80.0 * (2 * found - 1).double()
    assert jaccard_loss(hard, target, smooth=0.0) == pytest.approx(expected, abs=1e-9)
    assert lovasz_softmax(torch.cat([0 * hard, hard], 1), target[:, 0]) == pytest.approx(
        1 - jaccard_score(target.flatten(), found.flatten(), average="macro"), abs=1e-9
    )


def test_hard_tversky_of_a_half_is_hard_dice(mask: tuple) -> None:
    logits, target = mask
    hard = 80.0 * logits.sign()
    assert tversky_loss(hard, target, 0.5, 0.5, smooth=0.0) == pytest.approx(dice_loss(hard, target, 0.0).item())


def test_a_missed_pixel_costs_more_than_a_false_one() -> None:
    target = torch.tensor([[1, 1, 0, 0]])
    missed, false = torch.tensor([[80.0, -80, -80, -80]]), torch.tensor([[80.0, 80, 80, -80]])
    assert tversky_loss(missed, target, 0.3, 0.7) > tversky_loss(false, target, 0.3, 0.7)


def test_classes_by_loop(class_mask: tuple) -> None:
    logits, target = class_mask
    defects = per_class(logits, target)[1:]
    dice = [dice_by_loop(p, g, 1.0) for p, g in defects]
    tversky = [tversky_by_loop(p, g, 0.3, 0.7, 0.75, 1.0) for p, g in defects]
    jaccard = [tversky_by_loop(p, g, 1.0, 1.0, 1.0, 1.0) for p, g in defects]
    assert class_dice_loss(logits, target) == pytest.approx(np.mean(dice), abs=1e-9)
    assert class_tversky_loss(logits, target, exponent=0.75) == pytest.approx(np.mean(tversky), abs=1e-9)
    assert class_jaccard_loss(logits, target) == pytest.approx(np.mean(jaccard), abs=1e-9)
    weights = torch.tensor([9.0, 1.0, 2.0, 5.0])
    expected = (dice[0] + 2 * dice[1] + 5 * dice[2]) / 8
    assert class_dice_loss(logits, target, weights=weights) == pytest.approx(expected, abs=1e-9)


def test_cross_entropy_and_focal_of_pixels_are_those_of_the_known_pixels(class_mask: tuple) -> None:
    logits, target = class_mask
    known = target >= 0
    weights = torch.tensor([0.5, 2.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        cross_entropy(logits, target, weights, 0.1),
        F.cross_entropy(logits, target, weights, ignore_index=-1, label_smoothing=0.1),
        atol=1e-12,
        rtol=0,
    )
    flat = logits.movedim(1, -1)[known], target[known]
    torch.testing.assert_close(
        focal_loss(logits, target, 2.0, weights), focal_loss(*flat, 2.0, weights), atol=1e-12, rtol=0
    )


def test_bce_equals_torch(mask: tuple) -> None:
    logits, target = mask
    torch.testing.assert_close(bce(logits, target), F.binary_cross_entropy_with_logits(logits, target.double()))


@pytest.mark.parametrize("name", MASK_LOSSES)
def test_one_pixel_found_is_better_than_missed(name: str) -> None:
    target = torch.zeros(1, 1, 32, 32)
    target[0, 0, 10, 20] = 1
    missed = torch.full_like(target, -12.0, requires_grad=True)
    found = torch.where(target > 0, 12.0, -12.0)
    both = found.clone()
    both[0, 0, 0, 0] = 12.0
    loss = MASK_LOSSES[name](missed, target, LossSettings())
    (slope,) = torch.autograd.grad(loss, missed)
    assert MASK_LOSSES[name](found, target, LossSettings()) < loss
    assert MASK_LOSSES[name](found, target, LossSettings()) < MASK_LOSSES[name](both, target, LossSettings())
    assert slope[0, 0, 10, 20] < 0


@pytest.mark.parametrize("name", CLASS_MASK_LOSSES)
def test_a_false_alarm_on_good_parts_costs(name: str) -> None:
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    right = torch.zeros(2, K, 8, 8)
    right[:, 0] = 9.0
    wrong = right.clone()
    wrong[0, 2, 3, 3] = 18.0
    loss = CLASS_MASK_LOSSES[name]
    assert loss(wrong, target, LossSettings()) > loss(right, target, LossSettings()) + 1e-4


def jaccard_of_set(truth: tuple[bool, ...], wrong: frozenset[int]) -> float:
    """1 - IoU where the pixels `wrong` are the wrong ones (equation 5 of the paper)."""
    found = {i for i, true in enumerate(truth) if true != (i in wrong)}
    defect = {i for i, true in enumerate(truth) if true}
    return 1 - len(found & defect) / len(found | defect) if found | defect else 0.0


def extension_by_definition(errors: list[float], truth: tuple[bool, ...]) -> float:
    """The Lovász extension of a submodular function: the greatest over all orders of its chain sums (Edmonds 1970)."""
    sums = []
    for order in itertools.permutations(range(len(errors))):
        steps = [
            jaccard_of_set(truth, frozenset(order[: i + 1])) - jaccard_of_set(truth, frozenset(order[:i]))
            for i in range(len(order))
        ]
        sums.append(sum(errors[place] * step for place, step in zip(order, steps, strict=True)))
    return max(sums)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_extension_by_its_definition(pixels: list[tuple[float, bool]]) -> None:
    errors, truth = [error for error, _ in pixels], tuple(true for _, true in pixels)
    found = jaccard_extension(torch.tensor([errors], dtype=torch.float64), torch.tensor([truth]))
    assert found.item() == pytest.approx(extension_by_definition(errors, truth), abs=1e-9)


def test_the_extension_is_the_jaccard_loss_where_errors_are_hard() -> None:
    for truth in itertools.product([False, True], repeat=4):
        for wrong in itertools.product([False, True], repeat=4):
            found = jaccard_extension(torch.tensor([wrong]).double(), torch.tensor([truth]))
            expected = jaccard_of_set(truth, frozenset(np.flatnonzero(wrong).tolist()))
            assert found.item() == pytest.approx(expected, abs=1e-12)


def test_lovasz_hinge_takes_the_hinge_errors() -> None:
    logits, target = torch.tensor([[0.5, -2.0], [3.0, 0.2]], dtype=torch.float64), torch.tensor([[1, 1], [1, 0]])
    expected = extension_by_definition([0.5, 3.0, 0.0, 1.2], (True, True, True, False))
    assert lovasz_hinge(logits, target) == pytest.approx(expected)


def test_lovasz_softmax_takes_the_classes_present_and_no_ignored_pixel(class_mask: tuple) -> None:
    logits, target = class_mask[0][:1, :, :2, :3], class_mask[1][:1, :2, :3]
    expected = [
        extension_by_definition(abs(g - p).tolist(), tuple(g > 0)) for p, g in per_class(logits, target) if g.any()
    ]
    assert 0 < len(expected) < K
    assert bool((target < 0).any())
    assert lovasz_softmax(logits, target) == pytest.approx(np.mean(expected), abs=1e-9)
