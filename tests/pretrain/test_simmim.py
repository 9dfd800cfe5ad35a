"""SimMIM: its loss by hand, what is hidden from the encoder, its units, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.painters import LinearPainter
from ssl_defect.nets.patches import patchify, random_order, unpatchify
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.simmim import Options, SimMIM, hidden_l1


def build(name: str, size: int, channels: int = 1, **options: Any) -> SimMIM:
    torch.manual_seed(0)
    facts = Facts(channels, 100, size, 16, 10, 6)
    return SimMIM.build(build_encoder(name, size), Options(**options), facts)  # type: ignore[return-value]


def test_the_loss_by_hand() -> None:
    predicted = torch.tensor([[[1.0, -1.0], [5.0, 5.0]], [[0.0, 2.0], [3.0, -1.0]]])
    hidden = torch.tensor([[True, False], [False, True]])
    assert float(hidden_l1(predicted, torch.zeros(2, 2, 2), hidden)) == pytest.approx((1 + 1 + 3 + 1) / 4)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_a_head_that_always_says_one_grey_costs_its_distance_to_the_hidden_pixels(name: str) -> None:
    method = build(name, 64)
    for parameter in method.painter.leave.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(parameter)
    pictures = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    order = random_order(3, 16, torch.Generator().manual_seed(3))
    mean, deviation = float(method.encoder.mean.mean()), float(method.encoder.std.mean())
    distances = []
    for picture, row in zip(pictures, order, strict=True):
        for patch in row[-10:].tolist():  # 0.6 of 16 patches of 16 pixels
            top, left = divmod(patch, 4)
            hole = picture[0, 16 * top : 16 * top + 16, 16 * left : 16 * left + 16]
            distances.append(float(((hole - mean) / deviation).abs().mean()))
    logs = method.losses({"image": pictures, "order": order}, 0.0)
    assert float(logs["loss"].detach()) == pytest.approx(sum(distances) / 30, rel=1e-5)


@pytest.mark.parametrize("unit", [16, 32])
def test_what_is_hidden_is_never_seen_and_the_rest_is(unit: int) -> None:
    torch.manual_seed(0)
    encoder, number = build_encoder("test_vit", 128).eval(), (128 // unit) ** 2
    painter = LinearPainter(encoder, number // 2, 1, unit)
    pictures, order = torch.rand(2, 1, 128, 128), random_order(2, number, torch.Generator().manual_seed(1))
    predicted, hidden = painter(encoder, pictures, order)
    assert predicted.shape == (2, number, unit * unit)
    assert hidden.sum(dim=1).tolist() == [number // 2] * 2
    patches = patchify(pictures, unit)
    noise = torch.rand_like(patches)
    other = unpatchify(torch.where(hidden.unsqueeze(2), noise, patches), unit)
    torch.testing.assert_close(painter(encoder, other, order)[0], predicted)
    seen = unpatchify(torch.where(hidden.unsqueeze(2), patches, noise), unit)
    assert not torch.allclose(painter(encoder, seen, order)[0], predicted)


def test_the_linear_head_puts_each_patch_s_pixels_in_their_place() -> None:
    """With tokens that hold their patches' own pixels and an identity for a head, the picture comes out again."""
    encoder = build_encoder("test_vit", 64)
    painter = LinearPainter(encoder, 2, 1, 32)
    painter.leave = torch.nn.Identity()  # type: ignore[assignment]
    pictures = torch.rand(1, 1, 64, 64)
    encoder.masked_tokens = lambda x, hidden, token: patchify(x, 16)  # type: ignore[method-assign, assignment]
    predicted, _ = painter(encoder, pictures, torch.arange(4).unsqueeze(0))
    assert torch.equal(unpatchify(predicted, 32), pictures)


@pytest.mark.parametrize(
    ("name", "size", "unit", "hidden"),
    [
        ("test_vit", 128, 16, 38),
        ("test_vit", 192, 32, 22),
        ("test_resnet", 128, 16, 38),
        ("test_resnet", 256, 32, 38),
        ("vit_small_patch8_224", 64, 16, 10),
    ],
)
def test_default_units(name: str, size: int, unit: int, hidden: int) -> None:
    method = build(name, size)
    assert method.unit == unit
    assert method.painter.hidden == hidden


@pytest.mark.parametrize(
    ("name", "size", "options", "message"),
    [
        ("mixer_s32_224", 64, {}, r"simmim does not fit mixer_s32_224; it fits plain ViTs.*ResNet"),
        ("test_vit", 64, {"unit": 24}, r"test_vit cuts patches of 16 pixels and simmim hides whole ones; got 24"),
        ("test_resnet", 100, {}, r"simmim needs a multiple of the patch \(16 pixels\).*got 100; take 112"),
        ("test_vit", 208, {}, r"simmim needs a multiple of the patch \(32 pixels\).*got 208; take 224"),
    ],
)
def test_what_does_not_fit_is_one_line(name: str, size: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        build(name, size, **options)
    assert "\n" not in str(raised.value)
