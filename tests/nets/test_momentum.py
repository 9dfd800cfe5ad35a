"""Momentum encoders against the closed form of an exponential moving average."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ssl_defect.nets.momentum import follow, follower, rising_momentum


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.99, 1.0])
def test_after_n_steps_it_is_the_closed_form(momentum: float) -> None:
    module = network()
    average = follower(module)
    weights = [[p.detach().clone() for p in module.parameters()]]
    for _ in range(12):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        follow(average, module, momentum)
        weights.append([p.detach().clone() for p in module.parameters()])
    # a_n = m^n w_0 + (1 - m) sum_k m^(n - k) w_k
    for number, got in enumerate(average.parameters()):
        expected = momentum**12 * weights[0][number]
        for k in range(1, 13):
            expected = expected + (1 - momentum) * momentum ** (12 - k) * weights[k][number]
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_towards_fixed_weights_the_distance_shrinks_geometrically() -> None:
    module = network()
    average = follower(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    for _ in range(50):
        follow(average, module, 0.9)
    for mine, theirs in zip(average.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(theirs - mine, torch.full_like(mine, 0.9**50), rtol=1e-9, atol=1e-12)


def test_it_moves_in_place_and_leaves_the_leader_alone() -> None:
    module = network()
    average = follower(module)
    places = [p.data_ptr() for p in average.parameters()]
    assert not set(places) & {p.data_ptr() for p in module.parameters()}
    with torch.no_grad():
        module[0].weight.add_(1.0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    follow(average, module, 0.5)
    assert [p.data_ptr() for p in average.parameters()] == places
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_statistics_of_the_batch_are_not_averaged() -> None:
    module = network()
    average = follower(module)
    module(torch.randn(8, 3).double() * 5 + 2)
    before = {name: value.clone() for name, value in average.named_buffers()}
    assert not torch.equal(before["1.running_mean"], module[1].running_mean)
    follow(average, module, 0.5)
    assert all(torch.equal(before[name], value) for name, value in average.named_buffers())


def test_a_follower_takes_no_gradient_and_leaves_none_in_the_leader() -> None:
    module = network()
    average = follower(module)
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in module.parameters())
    loss = (module(torch.randn(4, 3).double()) - average(torch.randn(4, 3).double())).square().sum()
    loss.backward()
    follow(average, module, 0.5)
    assert all(p.grad is None and p.grad_fn is None for p in average.parameters())
    assert all(p.grad is not None for p in module.parameters())


def test_rising_momentum_by_hand() -> None:
    assert rising_momentum(0.99, 0.0) == pytest.approx(0.99, abs=1e-15)
    assert rising_momentum(0.99, 0.5) == pytest.approx(0.995, abs=1e-15)
    assert rising_momentum(0.99, 1.0) == 1.0
    assert rising_momentum(0.99, 1.5) == 1.0
    assert rising_momentum(0.996, 1 / 3) == pytest.approx(1 - 0.004 * (math.cos(math.pi / 3) + 1) / 2, abs=1e-15)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_rising_momentum_never_falls_nor_leaves_its_range(base: float, one: float, two: float) -> None:
    early, late = rising_momentum(base, min(one, two)), rising_momentum(base, max(one, two))
    assert base - 1e-12 <= early <= late + 1e-12
    assert late <= 1
