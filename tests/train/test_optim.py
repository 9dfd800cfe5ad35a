"""The schedule by its formula, and who is decayed, frozen or left out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ssl_defect.train.optim import constant, make_adamw, warmup_cosine


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
