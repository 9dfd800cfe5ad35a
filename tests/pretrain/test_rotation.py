"""Rotation: turns by hand, the paper's loss, and views that neither hold the answer nor spoil it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.rotation import Options, Rotation, four_turns

SIZE = 32


def build(**options: Any) -> Rotation:
    torch.manual_seed(0)
    facts = Facts(channels=1, images=64, image_size=SIZE, batch_size=16, epochs=1, steps_per_epoch=4)
    return Rotation(build_encoder("test_resnet", SIZE), Options(**options), facts)


def a_batch(images: Tensor, seed: int = 0) -> dict[str, Any]:
    return {"image": images, "generator": torch.Generator().manual_seed(seed)}


def test_the_four_turns_by_hand() -> None:
    turned = four_turns(torch.tensor([[[[1, 2], [3, 4]]]]))[0, :, 0]
    expected = [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    assert turned.tolist() == expected


@pytest.mark.parametrize("size", [4, 33])
def test_a_turn_moves_pixels_and_changes_none(size: int) -> None:
    images = torch.rand(3, 2, size, size)
    turned = four_turns(images)
    for turn in range(4):
        assert torch.equal(turned[:, turn].flatten(2).sort().values, images.flatten(2).sort().values)
        assert torch.equal(turned[:, turn].rot90(-turn, (2, 3)), images)


class Constant(nn.Module):
    """A head that answers the same whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[0.0, 3.0, 0.0, 0.0]]).expand(len(x), -1)


def test_the_loss_is_the_cross_entropy_over_all_turns() -> None:
    method = build()
    method.head = Constant()  # type: ignore[assignment]
    logs = method.losses({"image": torch.rand(5, 1, SIZE, SIZE)}, 0.0)
    total = math.log(math.exp(3) + 3)
    assert float(logs["loss"]) == pytest.approx((3 * total + total - 3) / 4, rel=1e-6)
    assert float(logs["accuracy"]) == 0.25


def test_answers_and_turned_pictures_are_in_the_same_order() -> None:
    """A head that looks which side is bright is always right."""
    method = build()
    image = torch.zeros(2, 1, SIZE, SIZE)
    image[:, :, 0, 1:-1] = 1.0  # bright above; turned anticlockwise: left, below, right

    class Sides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0, 0, 5], x[:, 0, 5, 0], x[:, 0, -1, 5], x[:, 0, 5, -1]], dim=1) * 50

    method.encoder, method.head = nn.Identity(), Sides()  # type: ignore[assignment]
    logs = method.losses({"image": image}, 0.0)
    assert float(logs["accuracy"]) == 1
    assert float(logs["loss"]) == pytest.approx(0, abs=1e-6)


def test_what_is_up_stays_up_in_a_view() -> None:
    ramp = torch.linspace(250, 5, SIZE).to(torch.uint8).view(1, 1, SIZE, 1).expand(64, 1, SIZE, SIZE)
    views = build(noise=0.0).views(a_batch(ramp), 0.0)["image"]
    rows = views.mean(dim=3)
    assert bool((rows[:, :, :-1] >= rows[:, :, 1:] - 1e-6).all())
    assert bool((rows[:, :, 0] > rows[:, :, -1] + 0.1).all())


def test_pictures_are_mirrored_half_of_the_time_and_never_where_that_is_off() -> None:
    ramp = torch.linspace(5, 250, SIZE).to(torch.uint8).view(1, 1, 1, SIZE).expand(200, 1, SIZE, SIZE)
    for mirror, low, high in ((True, 70, 130), (False, 0, 0)):
        views = build(noise=0.0, mirror=mirror).views(a_batch(ramp), 0.0)["image"].mean(dim=2)[:, 0]
        assert low <= int((views[:, 0] > views[:, -1]).sum()) <= high


def test_views_are_as_sharp_along_rows_as_along_columns() -> None:
    """A crop that is resampled unlike along its sides would give turns by 90 degrees away."""
    noise = torch.randint(0, 256, (64, 1, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    views = build(noise=0.0).views(a_batch(noise), 0.0)["image"]
    down = (views[:, :, 1:] - views[:, :, :-1]).square().mean(dim=(1, 2, 3))
    across = (views[:, :, :, 1:] - views[:, :, :, :-1]).square().mean(dim=(1, 2, 3))
    assert float((down / across).log().abs().max()) < 0.35
    assert float((down / across).log().mean().abs()) < 0.02


def accuracy_after(steps: int, images: Tensor) -> float:
    """Mean accuracy over the last quarter of so many steps on ever new pictures of a kind."""
    method = build(noise=0.0)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    seen = []
    for step in range(steps):
        start = 16 * step
        logs = method(a_batch(images[start : start + 16], step), step / steps)
        logs["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(logs["accuracy"]))
    return sum(seen[-steps // 4 :]) / (steps // 4)


@pytest.mark.parametrize("upright", [True, False])
def test_it_learns_where_parts_lie_one_way_and_cannot_where_they_lie_anyhow(upright: bool) -> None:
    """That nothing is learnt from the same parts in any direction also shows that views give nothing away."""
    steps, generator = 60, torch.Generator().manual_seed(0)
    bright = torch.linspace(200, 60, SIZE).view(1, 1, SIZE, 1).expand(16 * steps, 1, SIZE, SIZE)
    images = (bright + 20 * torch.randn(bright.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    if not upright:
        draw = torch.randint(0, 4, (len(images),), generator=generator)
        images = four_turns(images)[torch.arange(len(images)), draw]
    accuracy = accuracy_after(steps, images)
    assert accuracy > 0.9 if upright else 0.2 < accuracy < 0.3
