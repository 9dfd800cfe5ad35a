"""The moving average of weights by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ssl_defect.train.averaging import Average


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_by_hand_with_its_slow_start() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 10.0)
    average = Average(module, 0.15)
    for step, (weight, expected) in enumerate([(20.0, 0.1 * 10 + 0.9 * 20), (0.0, 0.15 * 19)]):
        nn.init.constant_(module.weight, weight)
        average.update(module, step)  # min(0.15, 1/10), then min(0.15, 2/11)
        assert average.module.weight.item() == pytest.approx(expected)
    average.update(module, 1000)
    assert average.module.weight.item() == pytest.approx(0.15 * 0.15 * 19)


def test_a_long_run_reaches_its_decay() -> None:
    module = make()
    average = Average(module, 0.999)
    start = [p.clone() for p in module.parameters()]
    with torch.no_grad():
        for p in module.parameters():
            p.add_(1)
    average.update(module, 10**6)
    for found, before in zip(average.module.parameters(), start, strict=True):
        torch.testing.assert_close(found, before + 0.001)


def test_buffers_are_copied_and_the_module_is_left_alone() -> None:
    module = make()
    average = Average(module, 0.9)
    module(torch.randn(4, 1, 8, 8))
    before = copy.deepcopy(module.state_dict())
    average.update(module, 0)
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(average.module[1].running_mean, module[1].running_mean)
    assert average.module[1].num_batches_tracked == 1
    module(torch.randn(4, 1, 8, 8))
    assert not torch.equal(average.module[1].running_mean, module[1].running_mean)


def test_it_takes_no_gradient_and_lies_in_the_state() -> None:
    average = Average(make(), 0.9)
    assert not any(p.requires_grad for p in average.parameters())
    assert {name.removeprefix("module.") for name in average.state_dict()} == set(make().state_dict())


def test_modules_without_buffers() -> None:
    module = nn.Linear(2, 2)
    average, before = Average(module, 0.5), module.weight.detach().clone()
    with torch.no_grad():
        module.weight += 1
    average.update(module, 1000)
    assert torch.allclose(average.module.weight, before + 0.5)
