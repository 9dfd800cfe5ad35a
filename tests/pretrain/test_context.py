"""Context: where the two patches lie, and that nothing but their content tells the side."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_defect.config import validate
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.context import AROUND, Context, Options, measures, one_channel


def build(size: int = 64, channels: int = 1, **options: Any) -> Context:
    torch.manual_seed(0)
    facts = Facts(channels=channels, images=64, image_size=size, batch_size=16, epochs=1, steps_per_epoch=4)
    method = Context.build(build_encoder("test_resnet", size), Options(**options), facts)
    assert isinstance(method, Context)
    return method


def a_batch(images: Tensor, seed: int = 0) -> dict[str, Any]:
    return {"image": images, "generator": torch.Generator().manual_seed(seed)}


def places(method: Context, count: int = 2000) -> tuple[Tensor, Tensor]:
    return method.places(count, torch.Generator().manual_seed(1))


def test_the_eight_sides_in_reading_order() -> None:
    assert AROUND.tolist() == [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1]]


def test_measures_by_hand() -> None:
    assert measures(128, Options()) == (25, 25 + 12, 3)
    assert measures(32, Options()) == (6, 6 + 3, 1)  # a pixel of jitter at least
    assert measures(32, Options(jitter=0.0)) == (6, 9, 0)
    assert measures(100, Options(patch=0.25, gap=0.0)) == (25, 25, 0)  # patches that touch cannot move


@pytest.mark.parametrize("size", [16, 33, 50, 64, 128])
def test_patches_lie_in_the_picture_on_their_side_and_never_touch(size: int) -> None:
    method = build(size)
    corners, answer = places(method)
    assert int(corners.min()) >= 0
    assert int(corners.max()) + method.side <= size
    moved = corners[:, 1] - corners[:, 0] - AROUND[answer] * method.step
    assert int(moved.min()) == -method.jitter
    assert int(moved.max()) == method.jitter
    apart = (corners[:, 1] - corners[:, 0]).abs().amax(dim=1) - method.side
    assert int(apart.min()) == method.step - method.side - method.jitter >= 0


def test_the_first_patch_s_place_tells_nothing_of_the_side() -> None:
    corners, answer = places(build(), 16000)
    means = torch.stack([corners[answer == side, 0].float().mean(dim=0) for side in range(8)])
    spread = corners[:, 0].float().std(dim=0)
    assert bool(((means - means.mean(dim=0)).abs() < 4 * spread / math.sqrt(2000)).all())
    assert answer.bincount(minlength=8).tolist() == pytest.approx([2000] * 8, rel=0.1)


def test_patches_are_cut_where_they_are_said_to_lie() -> None:
    method, seen = build(), []
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    images = (y * 64 + x).expand(20, 1, 64, 64)
    corners, _ = places(method, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_defect.pretrain.context.standardise", lambda p: seen.append(p) or p)
        pair = method.patches(images, corners, torch.Generator())
    assert pair.shape == (20, 2, 1, method.size, method.size)
    first = seen[0][:, :, 0, 0, 0].long()
    assert torch.equal(torch.stack([first // 64, first % 64], dim=2), corners)


def test_a_patch_keeps_one_channel_and_the_others_hold_faint_noise() -> None:
    patches = torch.randn(400, 2, 3, 6, 6)
    dropped = one_channel(patches, torch.Generator().manual_seed(0))
    same = (dropped == patches).flatten(3).all(dim=3)
    assert bool((same.sum(dim=2) == 1).all())
    assert same.float().mean(dim=(0, 1)).tolist() == pytest.approx([1 / 3] * 3, abs=0.06)
    assert float((same[:, 0] == same[:, 1]).all(dim=1).float().mean()) == pytest.approx(1 / 3, abs=0.1)  # each its own
    assert float(dropped[~same].std()) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize(("drop", "most"), [(True, 1), (False, 3)])
def test_channels_are_dropped_on_colour_pictures_where_asked(drop: bool, most: int) -> None:
    images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    pair = build(channels=3, drop_channels=drop).views(a_batch(images), 0.0)["pair"]
    alive = (pair.flatten(3).std(dim=3) > 0.05).sum(dim=2)
    assert alive.unique().tolist() == [most]


class Where(nn.Module):
    """An encoder that reads the row and the column which a patch holds in its two channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))[:, :2]


def test_the_answer_is_the_side_of_the_second_patch() -> None:
    """A head that compares two places is always right."""

    class Compare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            side = (x[:, 2:] - x[:, :2]).div(5).round()
            return -(side.unsqueeze(1) - AROUND).square().sum(dim=2) * 50

    method = build()
    method.encoder, method.head = Where(), Compare()  # type: ignore[assignment]
    answer = torch.arange(8)
    second = 20 + 5.0 * AROUND
    pair = torch.stack([torch.full_like(second, 20.0), second], dim=1).view(8, 2, 2, 1, 1).expand(8, 2, 2, 4, 4)
    logs = method.losses({"pair": pair, "answer": answer}, 0.0)
    assert float(logs["accuracy"]) == 1
    assert float(logs["loss"]) == pytest.approx(0, abs=1e-6)
    wrong = method.losses({"pair": pair.flip(1), "answer": answer}, 0.0)
    assert float(wrong["accuracy"]) == 0


def test_the_loss_is_chance_where_the_answer_is_unknown() -> None:
    method = build()
    for parameter in method.head.parameters():
        nn.init.zeros_(parameter)
    logs = method.losses({"pair": torch.rand(8, 2, 1, 32, 32), "answer": torch.arange(8)}, 0.0)
    assert float(logs["loss"].detach()) == pytest.approx(math.log(8), rel=1e-6)
    assert float(logs["accuracy"]) == 1 / 8


def test_the_strip_shows_the_pair_in_its_place() -> None:
    method = build(crop=(1.0, 1.0))
    strips = method.pictures(a_batch(torch.full((4, 1, 64, 64), 255, dtype=torch.uint8)))
    assert strips.shape == (4, 4, 1, 64, 64)
    shown = strips[:, 1, 0]
    assert (shown == 1).sum(dim=(1, 2)).tolist() == [2 * method.side**2] * 4
    assert bool(((shown == 1) | (shown == 0.5)).all())


@pytest.mark.parametrize("options", [{"patch": 0.05}, {"patch": 0.3}, {"gap": 1.5, "jitter": 1.0}])
def test_patches_that_do_not_fit_are_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(
        UserError, match=r"pretrain\.options\.patch: .* fit into 32 pixels, or .*; leave patch"
    ) as raised:
        build(32, **options)
    assert "\n" not in str(raised.value)


def test_jitter_that_lets_patches_touch_is_one_line() -> None:
    with pytest.raises(UserError, match=r"jitter must not be more than gap \(0\.1\), or patches touch; got 0\.2"):
        validate(Options, {"gap": 0.1, "jitter": 0.2}, "recipe", "pretrain.options")
