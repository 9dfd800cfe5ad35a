"""DenseCL: correspondence on known cells, the dense loss by definition, both queues, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain import densecl
from ssl_defect.pretrain.base import Facts


def make(backbone: str = "test_vit", size: int = 32, **options: Any) -> Any:
    torch.manual_seed(0)
    encoder = build_encoder(backbone, size)
    return densecl.DenseCL.build(encoder, densecl.Options(**options), Facts(1, 96, size, 16, 10, 6)).train()


def some_views(pictures: list[int], groups: list[int], seed: int = 0, size: int = 32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pair": torch.rand(len(pictures), 2, 1, size, size, generator=generator),
        "origin": torch.stack([torch.tensor(pictures), torch.tensor(groups)], dim=1),
        "draw": torch.rand(len(pictures), generator=generator),
    }


def test_correspondence_by_hand() -> None:
    cells = torch.tensor([[[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]]])
    others = torch.tensor([[[0.0, 0.1], [9.0, 8.0], [2.0, -0.5]]])
    assert densecl.correspondence(cells, others).tolist() == [[2, 0, 1]]


@given(st.integers(0, 1000), st.permutations(list(range(6))))
def test_moved_cells_are_found_again_whatever_their_length(seed: int, order: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randn(2, 6, 16, generator=generator)
    moved = cells[:, order] * (torch.rand(2, 6, 1, generator=generator) + 0.1)
    match = densecl.correspondence(cells, moved)
    assert all(order[place] == cell for row in match.tolist() for cell, place in enumerate(row))
    torch.testing.assert_close(densecl.matched_cosines(cells, moved, match), torch.ones(2, 6))


def test_correspondence_is_read_in_float32_and_takes_no_gradient() -> None:
    torch.manual_seed(0)
    one, two = torch.randn(2, 3, 40, 24, requires_grad=True).unbind(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = densecl.correspondence(one, two.detach())
    assert torch.equal(got, densecl.correspondence(one, two.detach()))
    assert not got.requires_grad


def test_matched_cosines_and_share_by_hand() -> None:
    cells, keys = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[0.0, 5.0], [3.0, 4.0]]])
    got = densecl.matched_cosines(cells, keys, torch.tensor([[1, 1]]))
    torch.testing.assert_close(got, torch.tensor([[0.6, 0.8]]))
    assert float(densecl.share_matched(torch.tensor([[1, 1, 1, 1], [0, 1, 2, 3]]))) == pytest.approx((0.25 + 1) / 2)


def term(query: Tensor, key: Tensor, others: list[Tensor], temperature: float) -> float:
    scores = [math.exp(float(query @ k) / temperature) for k in [key, *others]]
    return -math.log(scores[0] / sum(scores))


@torch.no_grad()
def by_definition(method: Any, views: dict[str, Tensor], queued: list[Any], temperature: float) -> tuple[Any, ...]:
    """Global loss, dense loss and the keys of a step, picture by picture and cell by cell."""
    maps = method.encoder.last_map(views["pair"][:, 0]), method.key_encoder.last_map(views["pair"][:, 1])
    query = normalize(method.heads.picture(maps[0].mean(dim=(2, 3))), dim=1)
    key = normalize(method.key_heads.picture(maps[1].mean(dim=(2, 3))), dim=1)
    features = [m.flatten(2).transpose(1, 2) for m in maps]
    cells, key_cells = method.heads.cell(features[0]), method.key_heads.cell(features[1])
    origins = views["origin"].tolist()
    here = [(*origin, k, normalize(c.mean(dim=0), dim=0)) for origin, k, c in zip(origins, key, key_cells, strict=True)]
    whole, dense = [], []
    for i, (picture, group) in enumerate(origins):
        far = [row for row in here + queued if row[0] != picture and (group < 0 or row[1] != group)]
        whole.append(term(query[i], key[i], [row[2] for row in far], temperature))
        for cell, feature in zip(cells[i], features[0][i], strict=True):
            best = max(range(len(features[1][i])), key=lambda n: float(cosine(feature, features[1][i][n])))
            own = normalize(key_cells[i][best], dim=0)
            dense.append(term(normalize(cell, dim=0), own, [row[3] for row in far], temperature))
    return sum(whole) / len(whole), sum(dense) / len(dense), sorted(here, key=lambda row: row[0])


def cosine(one: Tensor, two: Tensor) -> Tensor:
    return normalize(one, dim=0) @ normalize(two, dim=0)


def test_it_is_the_loss_of_its_definition_over_batch_and_queues() -> None:
    method = make(queue=5, temperature=0.3, weight=0.25)
    queued: list[Any] = []
    for step, (pictures, groups) in enumerate(
        [([0, 1, 2], [0, 0, 1]), ([3, 1, 4], [2, 0, 1]), ([0, 4, 5], [0, 1, -1])]
    ):
        views = some_views(pictures, groups, seed=step)
        whole, dense, keys = by_definition(method, views, queued, 0.3)
        got = {name: float(value.detach()) for name, value in method.losses(views, 0.0).items()}
        assert got["global_loss"] == pytest.approx(whole, rel=1e-5)
        assert got["dense_loss"] == pytest.approx(dense, rel=1e-5)
        assert got["loss"] == pytest.approx(0.75 * whole + 0.25 * dense, rel=1e-5)
        method.after_step(0.0)
        queued = (queued + keys)[-5:]
    assert torch.equal(method.queue.origins, method.dense_queue.origins)


@pytest.mark.parametrize(("groups", "negatives"), [("mask", [False, False, True]), ("ignore", [False, True, True])])
def test_old_keys_of_near_copies_are_no_negatives_of_cells_either(groups: str, negatives: list[bool]) -> None:
    method = make(queue=1, groups=groups)
    image = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8)
    batch = {"image": image, "index": torch.arange(3), "group": torch.tensor([0, 0, 1])}
    views = method.views(batch | {"generator": torch.Generator().manual_seed(0)}, 0.0)
    first = {name: value[:1] for name, value in views.items()}
    for picture, counts in enumerate(negatives):
        for queue in (method.queue, method.dense_queue):
            queue.enqueue(torch.eye(128)[:1], views["origin"][picture : picture + 1])
        got = method.losses(first, 0.0)
        assert (float(got["dense_loss"]) > 0) is counts
        assert (float(got["global_loss"]) > 0) is counts


def test_a_large_map_is_pooled_to_the_grid() -> None:
    heads = densecl.Heads(8, 4, grid=3)
    seen = torch.randn(2, 8, 9, 9)
    _, cells, features = heads(seen)
    assert cells.shape == (2, 9, 4)
    torch.testing.assert_close(features[0, 0], seen[0, :, :3, :3].mean(dim=(1, 2)))
    assert heads(torch.randn(2, 8, 2, 2))[1].shape == (2, 4, 4)


def test_on_a_cnn_gradients_reach_every_parameter_of_the_encoder() -> None:
    method = make("test_resnet", size=64)
    views = some_views(list(range(16)), [-1] * 16, size=64)
    first = method.losses(views, 0.0)
    first["loss"].backward()
    method.after_step(0.0)
    assert [n for n, p in method.encoder.named_parameters() if p.grad is None] == []
    assert [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None] == []
    assert float(first["matched"]) > 0.25  # two by two cells, and not all of them match one


def test_cells_alone_and_pictures_alone() -> None:
    views = some_views([0, 1, 2], [-1] * 3)
    for weight, part in ((0.0, "global_loss"), (1.0, "dense_loss")):
        got = make(weight=weight).losses(views, 0.0)
        assert torch.equal(got["loss"].detach(), got[part])


@pytest.mark.parametrize(("backbone", "size", "least"), [("test_resnet", 32, 64), ("test_vit", 16, 32)])
def test_a_map_of_one_cell_is_refused_with_the_size_that_fits(backbone: str, size: int, least: int) -> None:
    with pytest.raises(UserError, match=f"single cell at {size} pixels; take {least} or more") as raised:
        make(backbone, size)
    assert "\n" not in str(raised.value)
    make(backbone, least)
