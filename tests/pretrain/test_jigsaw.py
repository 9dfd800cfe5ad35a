"""Jigsaw: the set of orders, where tiles come from, and that nothing but their content tells the order."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_defect.config import validate
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.jigsaw import Jigsaw, Options, distant_orders, laid_out


def build(size: int = 64, channels: int = 1, **options: Any) -> Jigsaw:
    torch.manual_seed(0)
    facts = Facts(channels=channels, images=64, image_size=size, batch_size=16, epochs=1, steps_per_epoch=4)
    return Jigsaw(build_encoder("test_resnet", size), Options(**({"permutations": 8} | options)), facts)


def a_batch(images: Tensor, seed: int = 0) -> dict[str, Any]:
    return {"image": images, "generator": torch.Generator().manual_seed(seed)}


def hamming(orders: Any) -> list[int]:
    return [int((one != two).sum()) for one, two in itertools.combinations(orders, 2)]


@pytest.mark.parametrize(("tiles", "count", "least"), [(9, 64, 7), (9, 9, 9), (4, 4, 4), (4, 12, 3), (4, 24, 2)])
def test_orders_are_many_and_far_apart(tiles: int, count: int, least: int) -> None:
    orders = distant_orders(tiles, count)
    assert orders.shape == (count, tiles)
    assert all(sorted(order) == list(range(tiles)) for order in orders.tolist())
    assert min(hamming(orders)) == least


def test_orders_are_always_the_same_and_begin_alike() -> None:
    again = distant_orders.__wrapped__(9, 8)
    assert (distant_orders(9, 64)[:8] == again).all()
    assert again[0].tolist() == list(range(9))


def test_each_order_is_the_farthest_that_is_left() -> None:
    """The greedy choice by its definition, on all 24 orders of four tiles."""
    chosen = distant_orders(4, 24).tolist()
    everything = list(itertools.permutations(range(4)))
    for number in range(1, 24):
        before = chosen[:number]
        rank = {o: sorted(sum(a != b for a, b in zip(o, c, strict=True)) for c in before) for o in everything}
        best = max((distances[0], sum(distances)) for distances in rank.values())
        mine = rank[tuple(chosen[number])]
        assert (mine[0], sum(mine)) == best


@pytest.mark.parametrize("grid", [2, 3])
@pytest.mark.parametrize("size", [64, 50, 33, 16])
def test_the_tile_at_each_place_is_that_of_the_order(grid: int, size: int) -> None:
    """Pixels that hold their own place tell where a tile was cut: inside its cell, never beyond."""
    method = build(size, grid=grid)
    ramp = torch.arange(size * size, dtype=torch.float64).view(1, 1, size, size).expand(40, 1, size, size)
    orders = method.orders[torch.arange(40) % 8]
    cell, start = size // grid, (size - size // grid * grid) // 2
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_defect.pretrain.jigsaw.standardise", lambda x: seen.append(x) or x)
        tiles = method.tiles(ramp, orders, torch.Generator().manual_seed(0))
    assert tiles.shape == (40, grid**2, 1, method.size, method.size)
    first, last = seen[0][:, :, 0, 0, 0].long(), seen[0][:, :, 0, -1, -1].long()
    for low, high, index in ((first // size, last // size, orders // grid), (first % size, last % size, orders % grid)):
        assert bool((low >= start + index * cell).all())
        assert bool((high < start + (index + 1) * cell).all())
        assert torch.equal(high - low, torch.full_like(low, method.side - 1))


def test_tiles_move_by_chance_and_keep_their_gap() -> None:
    """Cells of 42 pixels: tiles of 36, one pixel left free on either side at least."""
    method = build(128)
    assert (method.side, method.room) == (36, 4)
    ramp = torch.arange(128.0).view(1, 1, 1, 128).expand(400, 1, 128, 128)
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_defect.pretrain.jigsaw.standardise", lambda x: seen.append(x) or x)
        method.tiles(ramp, method.orders[:1].expand(400, -1), torch.Generator().manual_seed(0))
    left = seen[0][:, 0, 0, 0, 0].long()
    assert left.unique().tolist() == [2, 3, 4, 5, 6]  # the grid begins at 1, with a pixel of the gap
    gaps = seen[0][:, 1, 0, 0, 0] - seen[0][:, 0, 0, 0, -1] - 1
    assert int(gaps.min()) == 2
    assert int(gaps.max()) == 10


class Marks(nn.Module):
    """An encoder that reads the number in the middle of a tile."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0, x.shape[2] // 2, x.shape[3] // 2].unsqueeze(1)


def test_features_of_a_picture_s_tiles_are_joined_in_the_order_shown() -> None:
    method = build()
    method.encoder, method.head = Marks(), nn.Identity()  # type: ignore[assignment]
    tiles = torch.arange(27.0).view(3, 9, 1, 1, 1).expand(3, 9, 1, 4, 4)
    assert torch.equal(method.answers(tiles), torch.arange(27.0).view(3, 9))


def test_the_loss_is_chance_where_the_answer_is_unknown() -> None:
    method = build()
    for parameter in method.head.parameters():
        nn.init.zeros_(parameter)
    logs = method.losses({"tiles": torch.rand(8, 9, 1, 32, 32), "answer": torch.arange(8)}, 0.0)
    assert float(logs["loss"].detach()) == pytest.approx(math.log(8), rel=1e-6)
    assert float(logs["accuracy"]) == 1 / 8


def test_no_tile_sees_another() -> None:
    """Context-free: one tile changed moves the features of no other (in evaluation, without batch statistics)."""
    method = build().eval()
    method.head = nn.Identity()  # type: ignore[assignment]
    tiles = torch.rand(2, 9, 1, 32, 32)
    other = tiles.clone()
    other[0, 4] += 0.3
    with torch.inference_mode():
        changed = (method.answers(tiles) != method.answers(other)).view(2, 9, -1).any(dim=2)
    assert changed.nonzero().tolist() == [[0, 4]]


def test_every_order_is_shown_equally_often() -> None:
    method = build(32)
    answers = method.views(a_batch(torch.zeros(1600, 1, 32, 32, dtype=torch.uint8)), 0.0)["answer"]
    assert answers.bincount(minlength=8).tolist() == pytest.approx([200] * 8, abs=50)


def test_brightness_and_contrast_of_a_picture_leave_no_trace() -> None:
    images = torch.rand(4, 1, 64, 64)
    method, orders = build(), distant_orders(9, 8)
    picked = torch.from_numpy(orders[:4]).long()
    one = method.tiles(images, picked, torch.Generator().manual_seed(0))
    two = method.tiles(images * 0.6 + 0.2, picked, torch.Generator().manual_seed(0))
    torch.testing.assert_close(one, two, atol=0.02, rtol=0)


def test_a_share_of_colour_pictures_is_grey() -> None:
    images = torch.rand(500, 3, 8, 8)
    greyed = build(channels=3).greyed(images, torch.Generator().manual_seed(0))
    grey = (greyed == greyed[:, :1]).flatten(1).all(dim=1)
    assert int(grey.sum()) == pytest.approx(150, abs=40)
    assert torch.equal(greyed[~grey], images[~grey])
    assert torch.equal(build(channels=3, grey=0.0).greyed(images, torch.Generator()), images)


def test_tiles_laid_out_again_are_the_picture() -> None:
    tiles = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(1, 9, 1, 5, 5) / 10
    whole = laid_out(tiles, 3, 32)[0, 0]
    assert whole.shape == (32, 32)
    assert whole[4::10, 4::10][:3, :3].flatten().tolist() == pytest.approx([n / 10 for n in range(9)])


def test_put_back_by_the_right_answer_the_picture_is_whole_again() -> None:
    images = torch.randint(0, 256, (6, 1, 64, 64), dtype=torch.uint8)
    method, whole = (build(gap=0.0, jitter=0.0).eval() for _ in range(2))
    answer = method.views(a_batch(images), 0.0)["answer"]
    method.answers = lambda _: nn.functional.one_hot(answer, 8).float()  # type: ignore[method-assign, assignment]
    strips = method.pictures(a_batch(images))
    whole.orders = torch.arange(9).expand(8, 9)
    untouched = whole.pictures(a_batch(images))[:, 1]
    assert torch.equal(strips[:, 2], untouched)
    assert not torch.equal(strips[:, 1], untouched)


def test_more_orders_than_there_are_is_one_line() -> None:
    with pytest.raises(
        UserError, match=r"pretrain\.options: .*four tiles have 24 orders, got 25; take 24 or less"
    ) as e:
        validate(Options, {"grid": 2, "permutations": 25}, "recipe", "pretrain.options")
    assert "\n" not in str(e.value)
    facts = Facts(channels=1, images=64, image_size=32, batch_size=16, epochs=1, steps_per_epoch=4)
    assert len(Jigsaw(build_encoder("test_resnet", 32), Options(grid=2), facts).orders) == 24
