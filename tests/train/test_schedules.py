"""Schedules by hand and against those of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR, ReduceLROnPlateau

from ssl_defect.train.optim import warmup_cosine
from ssl_defect.train.schedules import Lowered, make_schedule, on_plateau, one_cycle, steps_down

NAMES = ["cosine", "one_cycle", "step", "constant", "plateau"]


def torch_rates(kind: Any, steps: int, **settings: Any) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = kind(optimizer, **settings), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_one_cycle_equals_torch(share: float) -> None:
    steps = 60
    expected = torch_rates(OneCycleLR, steps, max_lr=1.0, total_steps=steps, pct_start=share, cycle_momentum=False)
    peak, end = share * steps - 1, steps - 1  # torch's own steps of the peak and the end
    places = [share * s / peak if s < peak else share + (1 - share) * (s - peak) / (end - peak) for s in range(steps)]
    found = [one_cycle(share)(place) for place in places]
    assert found == pytest.approx(expected, abs=1e-12)


def test_one_cycle_at_known_points() -> None:
    rate = one_cycle(0.2)
    assert rate(0.0) == pytest.approx(0.04)
    assert rate(0.1) == pytest.approx(0.52)
    assert rate(0.2) == 1
    assert rate(0.6) == pytest.approx(0.500002)
    assert rate(1.0) == pytest.approx(4e-6)
    assert one_cycle(0.0)(0.0) == 1


def test_steps_equal_torch() -> None:
    expected = torch_rates(MultiStepLR, 20, milestones=[5, 12], gamma=0.3)
    rate = steps_down([5 / 20, 12 / 20], 0.3)
    assert [rate(step / 20) for step in range(20)] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["step", "constant", "plateau"])
def test_the_warm_up_is_linear(name: str) -> None:
    rate = make_schedule(name, 0.2, [0.5, 0.75])
    assert [rate(p) for p in (0.0, 0.05, 0.1, 0.2, 0.4)] == pytest.approx([0, 0.25, 0.5, 1, 1])
    assert rate(0.8) == pytest.approx(0.01 if name == "step" else 1)


def test_cosine_is_that_of_pretraining() -> None:
    ours, theirs = make_schedule("cosine", 0.1), warmup_cosine(0.1)
    assert [ours(p) for p in np.linspace(0, 1, 33)] == [theirs(p) for p in np.linspace(0, 1, 33)]


@given(st.sampled_from(NAMES), st.floats(0, 0.99), st.floats(0, 1))
def test_every_schedule_stays_within_0_and_1(name: str, warmup: float, progress: float) -> None:
    rate = make_schedule(name, warmup, [0.3, 0.6], 0.5)
    assert 0 <= rate(progress) <= 1
    assert rate(warmup) == pytest.approx(1) or name == "step"


@given(st.lists(st.floats(0, 1), max_size=20), st.integers(1, 4))
def test_plateau_equals_torch(values: list[float], patience: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=patience - 1, threshold=0)
    state: dict[str, Any] = {}
    best = -np.inf
    for value in values:
        reference.step(value)
        on_plateau(state, value > best, patience, 0.5)
        best = max(best, value)
        expected = optimizer.param_groups[0]["lr"]
        if expected > 1e-7:  # torch leaves changes below 1e-8 out
            assert state["plateau"]["factor"] == pytest.approx(expected)


def test_plateau_by_hand() -> None:
    state: dict[str, Any] = {}
    factors = []
    for better in (True, False, False, False, True, False, False):
        on_plateau(state, better, 2, 0.1)
        factors.append(state["plateau"]["factor"])
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01])


def test_a_lowered_schedule_is_multiplied() -> None:
    rate = Lowered(warmup_cosine(0.0))
    before = rate(0.3)
    rate.factor = 0.25
    assert rate(0.3) == 0.25 * before
