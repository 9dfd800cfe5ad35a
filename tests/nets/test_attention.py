"""Attention against the papers' formulas written out in numpy and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_defect.nets.attention import ATTENTION, CBAM, CrossAttention, squeeze_excitation
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.patches import sincos_positions
from ssl_defect.nets.trunk import Trunk


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def picture(channels: int = 8, side: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(seed))


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in module.named_parameters()}


def test_squeeze_excitation_by_hand() -> None:
    torch.manual_seed(0)
    block, x = squeeze_excitation(8), picture()
    w, values = arrays(block), x.double().numpy()
    expected = np.empty_like(values)
    for b in range(2):
        z = np.array([values[b, c].mean() for c in range(8)])
        hidden = np.maximum(w["fc1.weight"][:, :, 0, 0] @ z + w["fc1.bias"], 0)
        gates = sigmoid(w["fc2.weight"][:, :, 0, 0] @ hidden + w["fc2.bias"])
        expected[b] = values[b] * gates[:, None, None]
    np.testing.assert_allclose(block(x).detach().numpy(), expected, atol=1e-6)


def test_cbam_by_hand() -> None:
    torch.manual_seed(0)
    block, x = CBAM(8), picture()
    w, values = arrays(block), x.double().numpy()
    expected = np.empty_like(values)

    def mlp(z: np.ndarray) -> np.ndarray:
        return w["mlp.2.weight"] @ np.maximum(w["mlp.0.weight"] @ z + w["mlp.0.bias"], 0) + w["mlp.2.bias"]

    for b in range(2):
        flat = values[b].reshape(8, -1)
        seen = values[b] * sigmoid(mlp(flat.mean(axis=1)) + mlp(flat.max(axis=1)))[:, None, None]
        planes = np.pad(np.stack([seen.mean(axis=0), seen.max(axis=0)]), ((0, 0), (3, 3), (3, 3)))
        for i in range(5):
            for j in range(5):
                found = (planes[:, i : i + 7, j : j + 7] * w["places.weight"][0]).sum() + w["places.bias"][0]
                expected[b, :, i, j] = seen[:, i, j] * sigmoid(found)
    np.testing.assert_allclose(block(x).detach().numpy(), expected, atol=1e-6)


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * weight + bias


@pytest.mark.parametrize(("channels", "heads"), [(8, 8), (12, 4), (6, 2)])
def test_cross_attention_by_hand(channels: int, heads: int) -> None:
    torch.manual_seed(0)
    block, x, reference = CrossAttention(channels), picture(channels, 3), picture(channels, 3, seed=1)
    assert block.attend.num_heads == heads
    w = arrays(block)
    positions = sincos_positions(3, -(-channels // 4) * 4)[0, :, :channels].double().numpy()
    split = np.split(w["attend.in_proj_weight"], 3)
    biases = np.split(w["attend.in_proj_bias"], 3)
    for b in range(2):
        tokens = x[b].double().numpy().reshape(channels, 9).T
        others = reference[b].double().numpy().reshape(channels, 9).T
        seen = norm(others, w["reference_norm.weight"], w["reference_norm.bias"])
        sources = (norm(tokens, w["norm.weight"], w["norm.bias"]) + positions, seen + positions, seen)
        q, k, v = (s @ m.T + c for s, m, c in zip(sources, split, biases, strict=True))
        found = np.empty((9, channels))
        for h in range(heads):
            part = slice(h * channels // heads, (h + 1) * channels // heads)
            scores = q[:, part] @ k[:, part].T / math.sqrt(channels // heads)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            found[:, part] = weights / weights.sum(axis=1, keepdims=True) @ v[:, part]
        added = tokens + found @ w["attend.out_proj.weight"].T + w["attend.out_proj.bias"]
        actual = block(x, reference)[b].detach().numpy().reshape(channels, 9).T
        np.testing.assert_allclose(actual, added, atol=1e-5)


def test_cross_attention_knows_places() -> None:
    """Told to look where it stands, it finds the reference's token of the same place."""
    block = CrossAttention(16)
    block.attend = torch.nn.MultiheadAttention(16, 1, batch_first=True)
    with torch.no_grad():
        block.attend.in_proj_weight.copy_(torch.cat([30 * torch.eye(16), 30 * torch.eye(16), torch.eye(16)]))
        block.attend.out_proj.weight.copy_(torch.eye(16))
        block.norm.weight.zero_()
    reference = 1e-3 * picture(16, 4)
    with torch.no_grad():
        block.reference_norm.weight.fill_(0.1)
        found = block(torch.zeros(2, 16, 4, 4), reference)
    expected = block.reference_norm(reference.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(2, 16, 4, 4)
    assert torch.nn.functional.cosine_similarity(found, expected, dim=1).min() > 0.9


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_weighs_and_never_turns_a_sign(kind: str) -> None:
    torch.manual_seed(0)
    x = picture()
    gates = ATTENTION[kind](8)(x) / x
    assert gates.min() > 0
    assert gates.max() < 1
    with torch.autocast("cpu", torch.bfloat16):
        assert bool(torch.isfinite(ATTENTION[kind](8)(x)).all())


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("attention", ["none", "se", "cbam"])
def test_a_trunk_keeps_the_shapes_of_the_maps(attention: str, backbone: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(backbone, 32).eval()
    pair, x = torch.rand(2, 2, 32, 32), torch.rand(2, 1, 32, 32)
    for options, pictures in (({"attention": attention}, x), ({"attention": attention, "pair": "group"}, pair)):
        trunk = Trunk(encoder.channels, options, 32)
        assert [m.shape for m in trunk.maps(encoder, pictures)] == [m.shape for m in encoder.pyramid(x)]


@pytest.mark.parametrize("colours", [1, 3])
def test_a_picture_alone_is_its_own_reference(colours: int) -> None:
    torch.manual_seed(0)
    encoder, x = build_encoder("test_resnet", 32).eval(), torch.rand(2, colours, 32, 32)
    trunk = Trunk([encoder.map_width], {"pair": "group"}, 32)
    alone, doubled = trunk.last_map(encoder, x), trunk.last_map(encoder, torch.cat([x, x], dim=1))
    torch.testing.assert_close(alone, doubled)
    other = trunk.last_map(encoder, torch.cat([x, 1 - x], dim=1))
    assert not torch.allclose(alone, other)


def test_only_the_coarsest_map_depends_on_the_reference() -> None:
    torch.manual_seed(0)
    encoder, x = build_encoder("test_resnet", 32).eval(), torch.rand(2, 1, 32, 32)
    trunk = Trunk(encoder.channels, {"pair": "group"}, 32)
    one, two = (trunk.maps(encoder, torch.cat([x, reference], dim=1)) for reference in (x, 1 - x))
    assert [torch.allclose(a, b) for a, b in zip(one, two, strict=True)] == [True] * (len(one) - 1) + [False]


def test_a_trunk_without_options_is_idle_and_has_no_weights() -> None:
    assert Trunk([8], {}, 32).idle
    assert not Trunk([8], {"attention": "none", "pair": "none"}, 32).state_dict()


@pytest.mark.parametrize("colours", [1, 3])
def test_a_picture_alone_is_compared_with_the_golden_one(colours: int) -> None:
    torch.manual_seed(0)
    encoder, x = build_encoder("test_resnet", 32).eval(), torch.rand(2, colours, 32, 32)
    golden = torch.randint(0, 256, (1, colours, 32, 32), dtype=torch.uint8)
    trunk = Trunk([encoder.map_width], {"pair": "golden"}, 32)
    assert trunk.golden is not None
    trunk.golden.copy_(golden.expand(1, 3, 32, 32))
    stacked = torch.cat([x, golden.expand(2, -1, -1, -1) / 255], dim=1)
    torch.testing.assert_close(trunk.last_map(encoder, x), trunk.last_map(encoder, stacked))
    assert not torch.allclose(trunk.last_map(encoder, x), trunk.last_map(encoder, torch.cat([x, x], dim=1)))
