"""The small networks on top of an encoder: their layers, their sizes and what their last norm does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_defect.nets.projection import mlp


def kinds(network: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in network]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["Linear", "BatchNorm1d", "ReLU", "Linear"]),
        ({"norm": False}, ["Linear", "ReLU", "Linear"]),
        ({"last_norm": True}, ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]),
    ],
)
def test_its_layers_come_in_order(options: dict[str, bool], expected: list[str]) -> None:
    assert kinds(mlp([8, 16, 4], **options)) == expected


def test_a_single_layer_is_linear() -> None:
    network = mlp([8, 4])
    assert kinds(network) == ["Linear"]
    assert network[0].bias is not None


@pytest.mark.parametrize("norm", [True, False])
def test_a_bias_stands_only_where_no_norm_takes_it_away_again(norm: bool) -> None:
    network = mlp([8, 16, 16, 4], norm=norm)
    biases = [layer.bias is not None for layer in network if isinstance(layer, nn.Linear)]
    assert biases == ([False, False, True] if norm else [True, True, True])


def test_its_number_of_parameters_by_hand() -> None:
    # with norms: 8*16 + 2*16 (norm), 16*4 + 4; without: biases instead of scale and shift
    assert sum(p.numel() for p in mlp([8, 16, 4]).parameters()) == 128 + 32 + 64 + 4
    assert sum(p.numel() for p in mlp([8, 16, 4], norm=False).parameters()) == 128 + 16 + 64 + 4
    assert sum(p.numel() for p in mlp([8, 16, 4], last_norm=True).parameters()) == 128 + 32 + 64


def test_a_last_norm_leaves_mean_0_and_variance_1_and_learns_nothing() -> None:
    torch.manual_seed(0)
    network = mlp([8, 16, 4], last_norm=True)
    assert list(network[-1].parameters()) == []
    made = network(torch.randn(64, 8) * 3 + 5)
    assert made.shape == (64, 4)
    torch.testing.assert_close(made.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(made.var(dim=0, correction=0), torch.ones(4), atol=1e-2, rtol=0)


def test_without_norms_pictures_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    one, two = torch.randn(2, 6, 8).unbind(0)
    alone = mlp([8, 16, 4], norm=False)
    torch.testing.assert_close(alone(torch.cat([one, two]))[:6], alone(one))
    together = mlp([8, 16, 4])
    assert not torch.allclose(together(torch.cat([one, two]))[:6], together(one), atol=1e-3)
