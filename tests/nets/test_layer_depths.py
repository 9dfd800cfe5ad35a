"""How deep each layer of a backbone lies: by hand, and as timm's own layer-wise decay has it."""

from __future__ import annotations

import pytest
from timm.optim import param_groups_layer_decay

from ssl_defect.nets.backbones import build_encoder, layer_depths

NAMES = ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "resnet18"]


@pytest.mark.parametrize("name", NAMES)
def test_rates_by_depth_equal_timm(name: str) -> None:
    encoder = build_encoder(name, 64)
    depths = layer_depths(encoder)
    assert set(depths) == {name for name, _ in encoder.named_parameters()}
    assert set(depths.values()) == set(range(max(depths.values()) + 1))
    scales = {
        id(p): group["lr_scale"]
        for group in param_groups_layer_decay(encoder.body, layer_decay=0.5)
        for p in group["params"]
    }
    top = max(depths.values())
    for parameter, p in encoder.named_parameters():
        assert scales[id(p)] == pytest.approx(0.5 ** (top - depths[parameter]))


def test_resnet18_by_hand() -> None:
    depths = layer_depths(build_encoder("resnet18", 32))
    assert depths["body.conv1.weight"] == depths["body.bn1.bias"] == 0
    assert depths["body.layer1.0.conv1.weight"] == 1
    assert depths["body.layer4.1.bn2.weight"] == max(depths.values()) == 8


def test_a_vit_begins_with_its_patches_and_ends_with_its_norm() -> None:
    encoder = build_encoder("test_vit", 32)
    depths = layer_depths(encoder)
    count = len(encoder.body.blocks)
    assert depths["body.patch_embed.proj.weight"] == depths["body.pos_embed"] == 0
    assert depths[f"body.blocks.{count - 1}.mlp.fc1.weight"] == depths["body.norm.weight"] == count


def test_a_body_that_timm_does_not_tell_apart() -> None:
    encoder = build_encoder("test_resnet", 32)
    encoder.body.group_matcher = None
    assert set(layer_depths(encoder).values()) == {0}
