"""The loss of masked pretraining by hand, its masks, and the backbones and sizes that it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.patches import normalise_patches, patchify
from ssl_defect.pretrain.base import Facts, Method
from ssl_defect.pretrain.mae import MAE, Options, masked_error


def build(name: str, size: int, channels: int = 1, **options: Any) -> Method:
    torch.manual_seed(0)
    facts = Facts(channels, 100, size, 16, 10, 6)
    return MAE.build(build_encoder(name, size), Options(**options), facts)


def batch(size: int, channels: int = 1, count: int = 3) -> dict[str, Any]:
    pictures = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8)
    return {"image": pictures, "generator": torch.Generator().manual_seed(0)}


def test_the_loss_counts_hidden_patches_alone() -> None:
    predicted = torch.tensor([[[1.0, 1.0], [5.0, 5.0]], [[0.0, 2.0], [3.0, 1.0]]])
    target = torch.zeros(2, 2, 2)
    hidden = torch.tensor([[True, False], [True, True]])
    assert float(masked_error(predicted, target, hidden)) == pytest.approx((1 + 2 + 5) / 3)


def test_predicting_every_patch_s_mean_costs_1() -> None:
    """Zero is the best constant for normalised patches; their variance is 1 but for the estimate's P / (P - 1)."""
    target = normalise_patches(torch.rand(2, 4, 64))[0]
    loss = masked_error(torch.zeros_like(target), target, torch.ones(2, 4, dtype=torch.bool))
    assert float(loss) == pytest.approx(63 / 64, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "hidden", "of"),
    [("test_vit", 128, 48, 64), ("test_resnet", 128, 38, 64), ("test_resnet", 192, 22, 36), ("test_vit", 32, 3, 4)],
)
def test_the_default_share_of_hidden_patches(name: str, size: int, hidden: int, of: int) -> None:
    method = build(name, size)
    order = method.mask(2, torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert order.shape == (2, of)
    assert method.painter.hidden_patches(order).sum(dim=1).tolist() == [hidden, hidden]  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_strips_show_picture_holes_and_painting(name: str, channels: int) -> None:
    method = build(name, 64, channels).eval()
    given = batch(64, channels)
    with torch.no_grad():
        strips = method.pictures(given)
    assert strips.shape == (3, 3, channels, 64, 64)
    torch.testing.assert_close(strips[:, 0], given["image"] / 255)
    picture, holes, painted = (patchify(strips[:, i], 16) for i in range(3))
    hidden = (holes == 0.5).all(dim=2)
    assert int(hidden.sum()) == 3 * method.painter.hidden  # type: ignore[union-attr, operator]
    assert torch.equal(painted[~hidden], picture[~hidden])
    assert not torch.allclose(painted[hidden], picture[hidden])


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("normalise", [True, False])
def test_its_health_is_that_of_the_painted_holes(name: str, normalise: bool) -> None:
    """Zeros, painted in the encoder's stead, are each patch's mean where patches are normalised, and black else."""
    method = build(name, 64, normalise=normalise)
    for parameter in method.painter.leave.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(parameter)
    views = method.views(batch(64, count=2), 0.0)
    patches = patchify(views["image"], 16)
    hidden = method.painter.hidden_patches(views["order"])  # type: ignore[union-attr, operator]
    errors = (patches - patches.mean(dim=2, keepdim=True) if normalise else patches).square().mean(dim=2)
    expected = [-10 * math.log10(float(e[h].mean())) for e, h in zip(errors, hidden, strict=True)]
    logs = method.losses(views, 0.0)
    assert float(logs["psnr"]) == pytest.approx(sum(expected) / 2, abs=1e-3)
    if normalise:
        assert float(logs["loss"].detach()) == pytest.approx(method.chance, rel=1e-3)


def test_a_backbone_that_fits_neither_design_is_refused_with_those_that_do() -> None:
    with pytest.raises(UserError, match=r"mae does not fit mixer_s32_224; it fits plain ViTs.*ResNet"):
        build("mixer_s32_224", 64)


@pytest.mark.parametrize(
    ("name", "size", "options", "message"),
    [
        ("test_resnet", 100, {}, r"multiple of the patch \(16 pixels\).*got 100; take 112"),
        ("test_resnet", 80, {}, r"multiple of the stride of test_resnet \(32 pixels\).*got 80; take 96"),
        ("test_resnet", 32, {"unit": 32}, r"two patches wide at least, got 32; take 64"),
        ("test_vit", 64, {"unit": 8}, r"test_vit cuts patches of 16 pixels; leave `unit` out"),
    ],
)
def test_sizes_that_do_not_fit(name: str, size: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, size, **options)
