"""Maps of some levels against the whole pyramid, and what is not computed for them."""

from __future__ import annotations

import pytest
import torch
from fitting import SIZE

from ssl_defect.nets.backbones import build_encoder

BACKBONES = ["test_resnet", "test_vit", "test_convnext", "tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"]


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_are_those_of_the_pyramid(name: str) -> None:
    torch.manual_seed(0)
    body = build_encoder(name, SIZE).eval()
    x = torch.rand(2, 1, SIZE, SIZE)
    with torch.no_grad():
        pyramid = body.pyramid(x)
        for levels in ([0], [1, 2], [len(pyramid) - 1], list(range(len(pyramid)))):
            for one, level in zip(body.maps(x, levels), levels, strict=True):
                assert torch.equal(one, pyramid[level])
        assert torch.equal(body.maps(x, [2, 1])[0], pyramid[1])


def test_stages_behind_the_coarsest_map_are_not_computed() -> None:
    body = build_encoder("resnet18", SIZE).eval()
    ran: list[str] = []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(body.body, name).register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        body.maps(torch.rand(1, 1, SIZE, SIZE), [1, 2])
    assert ran == ["layer1", "layer2"]
