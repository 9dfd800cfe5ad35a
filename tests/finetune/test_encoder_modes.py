"""What of the encoder learns, when, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trying import State, equal, run

from ssl_defect.errors import UserError
from ssl_defect.finetune.learner import encoder_parts
from ssl_defect.nets.backbones import build_encoder, layer_depths

Make = Callable[..., Any]


def test_frozen_is_a_rate_of_zero(make_case: Make, tmp_path: Path) -> None:
    frozen = run(make_case(steps=4, eval_every=2, encoder="frozen"), tmp_path / "a")
    zero = run(make_case(steps=4, eval_every=2, encoder_learning_rate=0), tmp_path / "b")
    assert equal(frozen, zero)


def test_of_a_linear_probe_only_the_linear_layer_learns(make_case: Make, tmp_path: Path, steps: list[State]) -> None:
    run(make_case(steps=4, eval_every=2, encoder="linear_probe", options={"dropout": 0.9}), tmp_path)
    moved = {name for name in steps[0] if not torch.equal(steps[0][name], steps[-1][name])}
    assert moved == {"head.linear.weight", "head.linear.bias"}


def test_a_linear_probe_drops_nothing(make_case: Make, tmp_path: Path) -> None:
    settings = {"steps": 3, "eval_every": 3, "encoder": "linear_probe"}
    one = run(make_case(**settings, options={"dropout": 0.0}), tmp_path / "a")
    two = run(make_case(**settings, options={"dropout": 0.9}), tmp_path / "b")
    assert equal(one, two)


def test_gradual_unfreezes_from_the_top(make_case: Make, tmp_path: Path, steps: list[State]) -> None:
    case = make_case(steps=40, eval_every=20, encoder="gradual", unfreeze=0.5, patience=99, warmup=0.0)
    start, depths = load_file(case.pretrained / "encoder.safetensors"), layer_depths(build_encoder("test_resnet", 32))
    run(case, tmp_path)
    top = max(depths.values())
    first = {
        depth: next(
            step
            for step, weights in enumerate(steps)
            if any(
                not torch.equal(weights[f"encoder.{name}"], start[f"encoder.{name.removeprefix('body.')}"])
                for name, its in depths.items()
                if its == depth
            )
        )
        for depth in range(top + 1)
    }
    turns = {depth: 40 * 0.5 * (top - depth + 1) / (top + 1) for depth in first}
    assert all(turns[depth] <= first[depth] < turns[depth] + 1 for depth in first)
    assert first[0] == 20


def test_rates_fall_layer_by_layer(make_case: Make) -> None:
    encoder = build_encoder("test_vit", 32)
    settings = make_case(encoder_learning_rate=0.1, layer_decay=0.5).recipe.finetune
    parts, depths = encoder_parts(encoder, settings), layer_depths(encoder)
    rates = {id(p): part.rate for part in parts for p in part.parameters}
    top = max(depths.values())
    for name, p in encoder.named_parameters():
        assert rates[id(p)] == pytest.approx(0.1 * 0.5 ** (top - depths[name]))
    assert all(part.since == 0 for part in parts)
    assert sum(len(part.parameters) for part in parts) == len(list(encoder.parameters()))


def test_a_linear_probe_of_a_decoder_is_refused(make_case: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"linear_probe needs a head of one linear layer.*segmentation is more"):
        run(make_case(task="segmentation", encoder="linear_probe"), tmp_path)


def test_layers_that_timm_does_not_tell_apart_are_refused(make_case: Make) -> None:
    encoder = build_encoder("test_resnet", 32)
    encoder.body.group_matcher = None
    with pytest.raises(UserError, match=r"set finetune\.layer_decay to 1"):
        encoder_parts(encoder, make_case(layer_decay=0.7).recipe.finetune)
