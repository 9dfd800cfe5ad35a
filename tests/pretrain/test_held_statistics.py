"""BatchNorm statistics of an encoder that was trained before stay as they are, for every method and its copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_contract import a_batch, build, cases

from ssl_defect.config import load_recipe
from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.pretrain.base import Method, batch_norms, has_statistics

CNN = [one.values[0][0] for one in cases() if one.values[0][1] == "test_resnet"]


def statistics(method: Method) -> dict[str, torch.Tensor]:
    """Of the encoder and of its copies, not of the heads, which are new."""
    encoders = [name for name, module in method.named_modules() if isinstance(module, Encoder)]
    state = method.state_dict()
    return {key: state[key].clone() for key in state if "running" in key and key.startswith(tuple(encoders))}


@pytest.mark.parametrize("name", CNN)
def test_they_are_held_through_a_step_and_gathered_where_asked(name: str, prepared: Path) -> None:
    method = build(name, "test_resnet", prepared)
    assert not has_statistics(method.encoder)
    assert not method.keep_statistics("auto")  # a new encoder has none worth keeping
    batch = a_batch(method, prepared)
    method.train()
    method(batch, 0.5)
    assert has_statistics(method.encoder)
    assert not method.keep_statistics("train")
    before = statistics(method)
    method.train()
    method(batch, 0.5)
    assert any(not torch.equal(value, before[key]) for key, value in statistics(method).items())
    assert method.keep_statistics("auto")
    before = statistics(method)
    method.train()
    method(batch, 0.5)["loss"].backward()
    for key, value in statistics(method).items():
        assert torch.equal(value, before[key]), key
    assert any(norm.weight.grad is not None for norm in batch_norms(method.encoder))  # scale and shift still learn


def test_frozen_holds_those_of_a_new_encoder_too(prepared: Path) -> None:
    method = build("simclr", "test_resnet", prepared)
    assert method.keep_statistics("frozen")
    method.train()
    method(a_batch(method, prepared), 0.5)
    assert not has_statistics(method.encoder)


def test_a_vit_has_none_to_hold() -> None:
    assert not has_statistics(build_encoder("test_vit", 64))


def test_a_setting_that_is_none_of_the_three_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\ndata: {source: synthetic}\npretrain: {batch_norm: off}\n")
    refused: Any = pytest.raises(Exception, match=r"pretrain\.batch_norm")
    with refused:
        load_recipe(recipe)
