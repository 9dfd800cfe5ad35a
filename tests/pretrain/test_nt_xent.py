"""NT-Xent against a hand calculation, lightly's loss and finite differences; groups against their definition."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch.nn import functional

from ssl_defect.pretrain.simclr import nt_xent


def test_two_pictures_by_hand() -> None:
    one = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    two = torch.tensor([[3.0, 0.0], [1.0, 0.0]])  # agrees; is the other picture
    # cosines: a1 with b1 0, a2 1, b2 1; a2 the same; b1 with a1 0, a2 0, b2 0; b2 with a1 1, a2 1, b1 0
    e = math.e
    a = -math.log(e / (1 + e + e))
    b1, b2 = -math.log(1 / 3), -math.log(1 / (e + e + 1))
    assert float(nt_xent(one, two, temperature=1.0)) == pytest.approx((a + a + b1 + b2) / 4, abs=1e-6)


def test_chance_and_perfection() -> None:
    alike = torch.ones(8, 4)
    assert float(nt_xent(alike, alike)) == pytest.approx(math.log(15), abs=1e-5)
    apart = torch.eye(8)
    assert float(nt_xent(apart, apart, temperature=0.02)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 7, 32])
def test_without_groups_it_is_lightly_s(count: int, temperature: float) -> None:
    torch.manual_seed(count)
    one, two = torch.randn(2, count, 16, dtype=torch.float64, requires_grad=True).unbind(0)
    expected = NTXentLoss(temperature=temperature)(one, two)
    got = nt_xent(one, two, temperature=temperature)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(got, (one, two)), torch.autograd.grad(expected, (one, two)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("groups", [None, [0, 1, 1, 2]])
def test_its_gradient_is_that_of_finite_differences(groups: list[int] | None) -> None:
    torch.manual_seed(0)
    one, two = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    numbers = None if groups is None else torch.tensor(groups)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, numbers, 0.3), (one, two))


def by_definition(one: torch.Tensor, two: torch.Tensor, groups: list[int], temperature: float) -> float:
    """Sum over anchors, with the near-copies left out of each denominator, pair by pair."""
    views = functional.normalize(torch.cat([one, two]), dim=1)
    count, losses = len(one), []
    for i in range(2 * count):
        mate = (i + count) % (2 * count)
        similar = {j: math.exp(float(views[i] @ views[j]) / temperature) for j in range(2 * count) if j != i}
        copies = {j for j in similar if j != mate and groups[i % count] >= 0 and groups[i % count] == groups[j % count]}
        losses.append(-math.log(similar[mate] / sum(value for j, value in similar.items() if j not in copies)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4], [0, 0, 1, 1, 1], [5, 5, 5, 5, 5], [-1, -1, 3, 3, -1]])
def test_near_copies_are_left_out_of_the_denominator(groups: list[int]) -> None:
    torch.manual_seed(1)
    one, two = torch.randn(5, 8), torch.randn(5, 8)
    got = float(nt_xent(one, two, torch.tensor(groups), 0.4))
    assert got == pytest.approx(by_definition(one, two, groups, 0.4), abs=1e-5)


def test_one_group_for_all_leaves_no_negatives() -> None:
    assert float(nt_xent(torch.randn(6, 4), torch.randn(6, 4), torch.zeros(6, dtype=torch.long))) == 0


def test_it_is_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(3)
    one, two = torch.randn(2, 16, 32).unbind(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = nt_xent(one, two)
    assert torch.equal(got, nt_xent(one, two))
