"""What every loss of every table promises, whatever its name: gradient, range, minimum, precision, hard inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_defect.errors import UserError
from ssl_defect.finetune.losses import (
    BOX_LOSSES,
    CLASS_LOSSES,
    FITS,
    LABEL_LOSSES,
    VALUE_LOSSES,
    LossSettings,
    check_losses,
    weighted_sum,
)
from ssl_defect.nets.mask_losses import CLASS_MASK_LOSSES, MASK_LOSSES

K, SIDE = 3, 4
PLAIN = LossSettings()
TUNED = LossSettings(1.5, 0.25, 0.4, 0.8, 0.75, 2.0, 0.1, 0.5, torch.tensor([0.5, 2.0, 1.0]))
SHARP = LossSettings(gamma=0.5, tversky_exponent=0.5, smooth=0.0)
SETTINGS = {"plain": PLAIN, "tuned": TUNED, "sharp": SHARP}
UNBOUNDED = {"bce", "cross_entropy", "focal", "lovasz", "l1", "l2", "huber", "giou"}


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def one_pixel() -> Tensor:
    mask = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8)
    mask[1, 0, 2, 1] = 1
    return mask


def boxes(count: int) -> Tensor:
    start, size = 20 * uniform(count, 2), 1 + 9 * uniform(count, 2)
    return torch.cat([start, start + size], dim=1)


def ignored(target: Tensor, every: int) -> Tensor:
    return torch.where(torch.arange(target.numel()).view(target.shape) % every == 0, -1, target)


CLASSES = torch.arange(2 * SIDE * SIDE).view(2, SIDE, SIDE) * 7 % 5 % K
# kind -> (table, shape of the logits, target)
KINDS: dict[str, tuple[dict, tuple[int, ...], Tensor]] = {
    "classes": (CLASS_LOSSES, (5, K), torch.tensor([0, 1, 2, 2, 1])),
    "soft classes": (CLASS_LOSSES, (5, K), uniform(5, K) / uniform(5, K).sum(1, keepdim=True)),
    "labels": (LABEL_LOSSES, (5, K), (uniform(5, K) > 0.6).long()),
    "soft labels": (LABEL_LOSSES, (5, K), uniform(5, K)),
    "numbers": (VALUE_LOSSES, (5,), uniform(5)),
    "rows of numbers": (VALUE_LOSSES, (5, K), uniform(5, K)),
    "mask": (MASK_LOSSES, (2, 1, SIDE, SIDE), (uniform(2, 1, SIDE, SIDE) > 0.7).to(torch.uint8)),
    "one pixel": (MASK_LOSSES, (2, 1, SIDE, SIDE), one_pixel()),
    "empty mask": (MASK_LOSSES, (2, 1, SIDE, SIDE), torch.zeros(2, 1, SIDE, SIDE)),
    "full mask": (MASK_LOSSES, (2, 1, SIDE, SIDE), torch.ones(2, 1, SIDE, SIDE)),
    "class mask": (CLASS_MASK_LOSSES, (2, K, SIDE, SIDE), CLASSES),
    "partly ignored": (CLASS_MASK_LOSSES, (2, K, SIDE, SIDE), ignored(CLASSES, 3)),
    "one pixel of a class": (CLASS_MASK_LOSSES, (2, K, SIDE, SIDE), one_pixel()[:, 0].long()),
    "all good": (CLASS_MASK_LOSSES, (2, K, SIDE, SIDE), 0 * CLASSES),
    "all ignored": (CLASS_MASK_LOSSES, (2, K, SIDE, SIDE), ignored(CLASSES, 1)),
    "boxes": (BOX_LOSSES, (6, 4), boxes(6)),
}
CASES = [(kind, name) for kind, (table, _, _) in KINDS.items() for name in table]
every_loss = pytest.mark.parametrize(("kind", "name"), CASES)


def loss_of(kind: str, name: str, chosen: LossSettings = PLAIN) -> Callable[[Tensor], Tensor]:
    table, _, target = KINDS[kind]
    return lambda logits: table[name](logits, target, chosen)


def draw(kind: str, scale: float = 1.0, seed: int = 0) -> Tensor:
    shape = KINDS[kind][1]
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return boxes(shape[0]) + scale * values if kind == "boxes" else scale * values


def perfect(kind: str) -> Tensor:
    _, shape, target = KINDS[kind]
    if kind in {"boxes", "numbers", "rows of numbers"}:
        return target
    if target.shape == shape:
        return 60.0 * (2 * target.double() - 1)
    number = target.clamp_min(0)
    return torch.zeros(shape, dtype=torch.float64).scatter(1, number.unsqueeze(1), 60.0)


def test_every_loss_of_every_table_is_here() -> None:
    assert {id(table) for table, _, _ in KINDS.values()} == {id(table) for table, _ in FITS}


@every_loss
@pytest.mark.parametrize("chosen", SETTINGS)
def test_gradient(kind: str, name: str, chosen: str) -> None:
    assert torch.autograd.gradcheck(loss_of(kind, name, SETTINGS[chosen]), draw(kind).requires_grad_())


@every_loss
@given(
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]), seed=st.integers(0, 99), chosen=st.sampled_from([PLAIN, TUNED, SHARP])
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_finite_in_bfloat16_within_its_range_and_as_in_float32(
    kind: str, name: str, scale: float, seed: int, chosen: LossSettings
) -> None:
    logits = draw(kind, scale, seed).bfloat16().requires_grad_()
    loss = loss_of(kind, name, chosen)(logits)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.ndim == 0
    assert torch.equal(loss, loss_of(kind, name, chosen)(logits.float()))
    assert bool(torch.isfinite(loss))
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert 0 <= loss <= (2 if name == "giou" else float("inf") if name in UNBOUNDED else 1)


@pytest.mark.parametrize(("kind", "name"), [case for case in CASES if "soft" not in case[0]])  # theirs is the entropy
def test_perfect_is_zero_and_better_than_any_other(kind: str, name: str) -> None:
    best = loss_of(kind, name)(perfect(kind))
    assert best == pytest.approx(0, abs=1e-6)
    if kind != "all ignored":
        assert loss_of(kind, name)(draw(kind)) > 1e-4


@every_loss
def test_down_the_slope_it_falls(kind: str, name: str) -> None:
    logits = draw(kind).requires_grad_()
    before = loss_of(kind, name)(logits)
    before.backward()
    assert logits.grad is not None
    if kind == "all ignored":
        assert not logits.grad.any()
        return
    assert loss_of(kind, name)(logits.detach() - 1e-3 * logits.grad) < before


@every_loss
def test_the_order_in_the_batch_means_nothing(kind: str, name: str) -> None:
    table, shape, target = KINDS[kind]
    logits, order = draw(kind), torch.arange(shape[0]).flip(0)
    turned = table[name](logits[order], target[order], TUNED)
    torch.testing.assert_close(turned, table[name](logits, target, TUNED), atol=1e-12, rtol=0)


@every_loss
def test_autocast_changes_nothing(kind: str, name: str) -> None:
    logits = draw(kind).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(kind, name, TUNED)(logits)
    torch.testing.assert_close(found, loss_of(kind, name, TUNED)(logits), atol=1e-6, rtol=0)


def test_weighted_sum_and_its_parts() -> None:
    _, _, target = KINDS["mask"]
    logits = draw("mask").requires_grad_()
    found = weighted_sum({"dice": 2.0, "focal": 20.0, "bce": 0.0}, MASK_LOSSES, logits, target, TUNED)
    assert set(found) == {"loss", "dice", "focal"}
    dice, focal = MASK_LOSSES["dice"](logits, target, TUNED), MASK_LOSSES["focal"](logits, target, TUNED)
    torch.testing.assert_close(found["loss"], 2 * dice + 20 * focal)
    torch.testing.assert_close(found["focal"], focal.detach())
    assert found["loss"].requires_grad
    assert not found["dice"].requires_grad


@pytest.mark.parametrize(
    ("chosen", "table", "message"),
    [
        ({"diec": 1}, MASK_LOSSES, r"'diec' is unknown; accepted: bce, .*; did you mean 'dice'\?"),
        ({"dice": 1}, CLASS_LOSSES, "'dice' does not fit here, it is for segmentation of good .*accepted: cross_ent"),
        ({"giou": 1}, MASK_LOSSES, "'giou' does not fit here, it is for boxes, from Python"),
        ({"huber": 1}, LABEL_LOSSES, "'huber' does not fit here, it is for regression"),
        ({"bce": 1}, CLASS_MASK_LOSSES, "classification with several labels per image and segmentation of good"),
        ({"focal": -1}, CLASS_LOSSES, "'focal: -1' is no weight; give a number of at least 0"),
        ({"focal": float("nan")}, CLASS_LOSSES, "at least 0"),
        ({"focal": 0, "cross_entropy": 0}, CLASS_LOSSES, "no loss has a weight above 0"),
        ({}, VALUE_LOSSES, "no loss has a weight above 0.*accepted: l1, l2, huber"),
    ],
)
def test_a_choice_that_does_not_fit_is_one_line(chosen: dict, table: dict, message: str) -> None:
    with pytest.raises(UserError, match=rf"^finetune\.options\.losses: .*{message}") as error:
        check_losses(chosen, table, "finetune.options.losses")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("table", [table for table, _ in FITS])
def test_a_choice_that_fits_is_taken(table: dict) -> None:
    check_losses(dict.fromkeys(table, 1.0) | {next(iter(table)): 0.5}, table, "here")
