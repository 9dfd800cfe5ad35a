"""The schedule by its formula, and who is decayed, frozen or left out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ssl_defect.train.optim import Part, constant, hold_back, make_adamw, make_optimizer, warmup_cosine


def test_the_schedule_at_known_points() -> None:
    rate = warmup_cosine(0.2, floor=0.1)
    assert rate(0.0) == 0
    assert rate(0.1) == pytest.approx(0.5)
    assert rate(0.2) == pytest.approx(1.0)
    assert rate(0.6) == pytest.approx(0.55)  # half way down: mean of 1 and the floor
    assert rate(1.0) == pytest.approx(0.1)
    assert rate(0.4) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert constant(0.3) == 1


@given(st.floats(0, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_it_rises_then_falls_within_0_and_1(warmup: float, one: float, two: float) -> None:
    rate, (early, late) = warmup_cosine(warmup), sorted((one, two))
    assert 0 <= rate(one) <= 1
    if late <= warmup:
        assert rate(early) <= rate(late)
    if early >= warmup:
        assert rate(early) >= rate(late) - 1e-12


def test_biases_and_norms_are_not_decayed() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    decayed, spared = make_adamw([(module, 1e-3)], 0.05).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0)
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert [p.ndim for p in spared["params"]] == [1, 1, 1, 1]


def test_each_module_has_its_rate_and_a_shared_parameter_the_first() -> None:
    encoder, head = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
    whole = nn.Sequential(encoder, head)
    groups = make_adamw([(encoder, 1e-4), (whole, 1e-2)], 0).param_groups
    assert [(g["peak"], [id(p) for p in g["params"]]) for g in groups] == [
        (1e-4, [id(encoder.weight)]),
        (1e-2, [id(head.weight)]),
    ]


def test_frozen_parameters_and_a_rate_of_0_are_left_out() -> None:
    encoder, head = nn.Linear(2, 2), nn.Linear(2, 1)
    head.bias.requires_grad_(False)
    groups = make_adamw([(encoder, 0.0), (nn.Sequential(encoder, head), 1e-2)], 0.1).param_groups
    assert [id(p) for g in groups for p in g["params"]] == [id(head.weight)]


def one(name: str, decay: float = 0.0, **settings) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    weight = nn.Parameter(torch.tensor([[2.0, -3.0]], dtype=torch.float64))
    return weight, make_optimizer(name, [Part([weight], 0.1)], decay, **settings)


def move(weight: nn.Parameter, optimizer: torch.optim.Optimizer, *gradients: list[float]) -> Tensor:
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    return weight.detach()[0]


A, B = [1.0, -4.0], [2.0, 2.0]


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        # v1 = a, v2 = 0.9 v1 + b
        ("sgd", {}, [2 - 0.1 * (1 + 0.9 * 1 + 2), -3 - 0.1 * (-4 + 0.9 * -4 + 2)]),
        # each step g + 0.9 v
        ("sgd", {"nesterov": True}, [2 - 0.1 * (1.9 + 2 + 0.9 * 2.9), -3 - 0.1 * (-7.6 + 2 + 0.9 * -1.6)]),
        ("sgd", {"momentum": 0.0}, [2 - 0.1 * 3, -3 - 0.1 * -2]),
        # 0.99 v + 0.01 g^2
        (
            "rmsprop",
            {},
            [2 - 0.1 * (1 / 0.1 + 2 / 0.0499**0.5), -3 - 0.1 * (-4 / 0.4 + 2 / (0.99 * 0.16 + 0.04) ** 0.5)],
        ),
    ],
)
def test_two_steps_by_hand(name: str, settings: dict, expected: list[float]) -> None:
    assert move(*one(name, **settings), A, B).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw", [2 - 0.1 * 0.5 * 2 - 0.1, -3 + 0.1 * 0.5 * 3 + 0.1]),  # decoupled: the first step is the sign
        ("adam", [2 - 0.1, -3 + 0.1]),  # L2: the decay is in the gradient, of which the sign is left
        ("sgd", [2 - 0.1 * (1 + 0.5 * 2), -3 - 0.1 * (-4 - 0.5 * 3)]),
        ("rmsprop", [2 - 1, -3 + 1]),
    ],
)
def test_the_first_step_with_decay_by_hand(name: str, expected: list[float]) -> None:
    assert move(*one(name, 0.5), A).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
def test_every_optimizer_has_the_same_groups(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    module[2].requires_grad_(False)
    groups = make_optimizer(name, [Part(list(module.parameters()), 0.2, 0.5)], 0.05).param_groups
    assert [(g["peak"], g["lr"], g["since"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.2, 0.2, 0.5, 0.05, 1),
        (0.2, 0.2, 0.5, 0.0, 3),
    ]


def test_groups_stand_still_until_their_turn() -> None:
    early, late = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = make_optimizer("sgd", [Part([early], 0.1), Part([late], 0.1, since=0.5)], 0)
    for progress, expected in ((0.0, [0.1, 0]), (0.499, [0.1, 0]), (0.5, [0.1, 0.1])):
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        hold_back(optimizer, progress)
        assert [group["lr"] for group in optimizer.param_groups] == expected
        (early * late).sum().backward()
        assert early.grad is not None
        assert (late.grad is not None) == (progress >= 0.5)  # what stands still costs no way back
        optimizer.zero_grad()
