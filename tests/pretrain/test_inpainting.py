"""Context encoders: the loss by hand, where holes lie, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.inpainting import Inpainting, Options, blocks, hole_error


def build(name: str, size: int, channels: int = 1, **options: Any) -> Inpainting:
    torch.manual_seed(0)
    facts = Facts(channels, 100, size, 16, 10, 6)
    return Inpainting.build(build_encoder(name, size), Options(**options), facts)  # type: ignore[return-value]


def holes(count: int = 200, size: int = 64, **options: Any) -> torch.Tensor:
    return build("test_resnet", size, **options).holes(count, torch.Generator().manual_seed(0))


def test_the_loss_by_hand() -> None:
    """A hole of 1 pixel, error 3, in a band of 8 pixels, error 1; the rest of the picture, error 100, is no matter."""
    hole = torch.zeros(1, 1, 5, 5, dtype=torch.bool)
    hole[0, 0, 2, 2] = True
    painted = torch.full((1, 1, 5, 5), 10.0)
    painted[0, 0, 1:4, 1:4] = 1.0
    painted[0, 0, 2, 2] = 3.0
    target = torch.zeros_like(painted)
    assert float(hole_error(painted, target, hole, 0, 10.0)) == pytest.approx(9)
    assert float(hole_error(painted, target, hole, 1, 10.0)) == pytest.approx((9 + 10 * 8 * 1) / (1 + 10 * 8))


def test_pictures_count_alike_however_large_their_holes() -> None:
    hole = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    hole[0, 0, 0, 0], hole[1] = True, True
    painted = torch.stack([torch.full((1, 4, 4), 2.0), torch.full((1, 4, 4), 1.0)])
    assert float(hole_error(painted, torch.zeros(2, 1, 4, 4), hole, 0, 0.0)) == pytest.approx((4 + 1) / 2)


def test_blocks_by_hand() -> None:
    found = blocks(torch.tensor([[[0, 1], [2, 0]]]), torch.tensor([[[1, 2], [1, 1]]]), 3)
    assert found.int().tolist() == [[[[0, 1, 1], [0, 0, 0], [1, 0, 0]]]]


def test_one_block_is_a_square_anywhere_that_leaves_room_for_its_band() -> None:
    found = holes()
    assert found.sum(dim=(1, 2, 3)).tolist() == [32 * 32] * 200
    rows, columns = found[:, 0].any(dim=2), found[:, 0].any(dim=1)
    assert rows.sum(dim=1).tolist() == columns.sum(dim=1).tolist() == [32] * 200
    assert not rows[:, [0, 1, -2, -1]].any()
    assert set(rows.int().argmax(dim=1).tolist()) == set(columns.int().argmax(dim=1).tolist()) == set(range(2, 31))


def test_the_centre_is_the_centre() -> None:
    found = holes(3, region="centre")
    assert found[:, :, 16:48, 16:48].all()
    assert found.sum(dim=(1, 2, 3)).tolist() == [32 * 32] * 3


def test_several_blocks_keep_to_their_share_and_differ() -> None:
    found = holes(region="blocks")
    area = found.sum(dim=(1, 2, 3))
    assert int(area.min()) > 0
    assert int(area.max()) <= 32 * 32
    assert len(area.unique()) > 50


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_the_encoder_never_sees_what_is_cut_out(name: str) -> None:
    method = build(name, 64).eval()
    pictures = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    hole = method.holes(2, torch.Generator().manual_seed(2))
    other = torch.where(hole, 1 - pictures, pictures)
    with torch.no_grad():
        painted = method.paint(pictures, hole)
        assert painted.shape == pictures.shape
        torch.testing.assert_close(method.paint(other, hole), painted)
        assert not torch.allclose(method.paint(1 - pictures, hole), painted)


@pytest.mark.parametrize("channels", [1, 3])
def test_strips_leave_all_but_the_hole_alone(channels: int) -> None:
    method = build("test_resnet", 64, channels).eval()
    pictures = torch.randint(0, 256, (3, channels, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        strips = method.pictures({"image": pictures, "generator": torch.Generator().manual_seed(0)})
    picture, seen, painted = strips.unbind(1)
    hole = (seen == 0.5).all(dim=1, keepdim=True).expand_as(picture)
    assert torch.equal(picture[~hole], painted[~hole])
    assert not torch.allclose(picture[hole], painted[hole])


def test_a_stride_that_is_no_power_of_two() -> None:
    method = build("vit_small_patch14_dinov2", 56)
    assert method.paint(torch.rand(1, 1, 56, 56), method.holes(1, torch.Generator())).shape == (1, 1, 56, 56)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mixer_s32_224", {}, r"inpainting does not fit mixer_s32_224; it fits plain ViTs.*ResNet"),
        ("test_resnet", {"overlap": 20}, r"a hole of 32 pixels and a band of 20 .* 64 pixels; take an overlap of 15"),
    ],
)
def test_what_does_not_fit_is_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, 64, **options)
