"""Maps of some levels against the whole pyramid, and what is not computed for them."""

from __future__ import annotations

import pytest
import torch
from fitting import SIZE

from ssl_defect.nets.anomaly.patches import around, patch_features
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


def test_a_cell_is_the_mean_of_nine_also_at_the_border() -> None:
    maps = torch.arange(20.0).view(1, 1, 4, 5)
    found = around(maps)[0, 0]
    assert found.shape == (4, 5)
    assert found[1, 2] == maps[0, 0, 0:3, 1:4].mean()
    assert found[2, 3] == maps[0, 0, 1:4, 2:5].mean()
    assert found[0, 2] == found[1, 2]  # the window is moved into the map
    assert found[3, 4] == found[2, 3] == maps[0, 0, 1:4, 2:5].mean()
    assert around(torch.ones(1, 1, 2, 2)).eq(1).all()


def test_a_map_without_structure_varies_no_more_at_the_border_than_inside() -> None:
    noise = torch.randn(4000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    spread = around(noise).std(0)[0]
    assert torch.allclose(spread, torch.full_like(spread, 1 / 3), rtol=0.08)


def test_patch_features_are_joined_at_the_finest_of_the_maps() -> None:
    torch.manual_seed(0)
    body = build_encoder("test_resnet", SIZE).eval()
    x = torch.rand(2, 1, SIZE, SIZE)
    with torch.no_grad():
        fine, coarse = body.maps(x, [1, 2])
        found = patch_features(body, x, [1, 2])
    assert found.shape == (2, fine.shape[1] + coarse.shape[1], *fine.shape[-2:])
    torch.testing.assert_close(found[:, : fine.shape[1]], around(fine))
