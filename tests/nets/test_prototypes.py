"""Prototypes: cosines, and vectors that stand still in the steps in which they are frozen, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from ssl_defect.nets.prototypes import Prototypes, perplexity
from ssl_defect.train.optim import make_adamw


def test_they_give_cosines_whatever_their_length() -> None:
    prototypes = Prototypes(5, 7)
    unit = functional.normalize(torch.randn(3, 2, 5), dim=2)
    expected = functional.cosine_similarity(unit.unsqueeze(2), prototypes.vectors.detach(), dim=3)
    torch.testing.assert_close(prototypes(unit), expected)
    with torch.no_grad():
        prototypes.vectors.mul_(torch.rand(7, 1) + 0.1)
    torch.testing.assert_close(prototypes(unit), expected)


def test_they_are_float32_under_autocast() -> None:
    prototypes, unit = Prototypes(5, 7), functional.normalize(torch.randn(3, 5), dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = prototypes(unit)
    assert got.dtype == torch.float32
    assert torch.equal(got, prototypes(unit))


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_frozen_they_stand_still_and_then_move(weight_decay: float) -> None:
    torch.manual_seed(0)
    prototypes, layer = Prototypes(4, 6), torch.nn.Linear(4, 4)
    optimizer = make_adamw([(torch.nn.ModuleList([prototypes, layer]), 0.1)], weight_decay)
    start = prototypes.vectors.detach().clone()
    for step in range(6):
        embedded = functional.normalize(layer(torch.randn(8, 4)), dim=1)
        prototypes(embedded, frozen=step < 3).square().sum().backward()
        assert layer.weight.grad is not None
        assert bool(layer.weight.grad.any())  # the gradient passes through them all the while
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(prototypes.vectors, start) == (step < 3)


def test_perplexity_by_hand() -> None:
    shares = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0]])
    torch.testing.assert_close(perplexity(shares), torch.tensor([4.0, 1.0, 2.0, 2 * math.sqrt(2)]))
