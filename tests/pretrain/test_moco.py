"""MoCo v2 and v3: their losses by definition, what the queue holds, who is a negative of whom."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor
from torch.nn.functional import normalize

from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain import moco_v2, moco_v3
from ssl_defect.pretrain.base import Facts

SIZE = 32


def make(module: Any, backbone: str = "test_vit", images: int = 96, **options: Any) -> Any:
    torch.manual_seed(0)
    encoder = build_encoder(backbone, SIZE)
    return module.METHOD.build(encoder, module.Options(**options), Facts(1, images, SIZE, 16, 10, 6)).train()


def some_views(pictures: list[int], groups: list[int] | None = None, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.tensor(pictures)
    of = torch.full_like(numbers, -1) if groups is None else torch.tensor(groups)
    return {
        "pair": torch.rand(len(pictures), 2, 1, SIZE, SIZE, generator=generator),
        "origin": torch.stack([numbers, of], dim=1),
        "draw": torch.rand(len(pictures), generator=generator),
    }


def a_batch(count: int = 6, **more: Tensor) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 1, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    numbers = torch.arange(count)
    return {"image": image, "index": numbers, "group": numbers // 2, "generator": generator} | more


def by_definition(query: Tensor, key: Tensor, others: list[Tensor], temperature: float) -> float:
    """-log of the softmax at a query's own key, among it and the others."""
    scores = [math.exp(float(query @ k) / temperature) for k in [key, *others]]
    return -math.log(scores[0] / sum(scores))


@torch.no_grad()
def embedded(method: Any, views: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    query = normalize(method.head(method.encoder(views["pair"][:, 0])), dim=1)
    return query, normalize(method.key_head(method.key_encoder(views["pair"][:, 1])), dim=1)


def test_v2_is_the_loss_of_its_definition_over_batch_and_queue() -> None:
    method = make(moco_v2, queue=5, temperature=0.3)
    queued: list[tuple[int, int, Tensor]] = []
    for step, (pictures, groups) in enumerate(
        [([0, 1, 2], [0, 0, 1]), ([3, 1, 4], [2, 0, 1]), ([0, 4, 5], [0, 1, -1])]
    ):
        views = some_views(pictures, groups, seed=step)
        query, key = embedded(method, views)
        losses = []
        here = list(zip(pictures, groups, key, strict=True))
        for q, own, picture, group in zip(query, key, pictures, groups, strict=True):
            others = [k for p, g, k in here + queued if p != picture and (g < 0 or g != group)]
            losses.append(by_definition(q, own, others, 0.3))
        got = method.losses(views, 0.0)
        assert float(got["loss"].detach()) == pytest.approx(sum(losses) / 3, rel=1e-5)
        method.after_step(0.0)
        queued = (queued + sorted(here, key=lambda row: row[0]))[-5:]


@pytest.mark.parametrize(
    ("groups", "negatives"),
    [("mask", [False, False, True]), ("positives", [False, False, True]), ("ignore", [False, True, True])],
)
def test_v2_neither_its_own_old_keys_nor_those_of_near_copies_are_negatives(groups: str, negatives: list[bool]) -> None:
    method = make(moco_v2, queue=1, groups=groups)
    views = method.views(a_batch(), 0.0)  # pictures 0 and 1 share a group
    first = {name: value[:1] for name, value in views.items()}
    for picture, counts in enumerate(negatives):
        method.queue.enqueue(torch.eye(128)[:1], views["origin"][picture : picture + 1])
        assert (float(method.losses(first, 0.0)["loss"].detach()) > 0) is counts


def test_v2_a_queue_is_no_longer_than_the_set() -> None:
    assert len(make(moco_v2, images=40).queue.keys) == 40
    assert len(make(moco_v2, images=40, queue=10).queue.keys) == 10


def test_v2_its_queue_holds_the_latest_keys_by_picture() -> None:
    method = make(moco_v2, queue=7)
    made = {}
    for step, pictures in enumerate([[5, 3, 4], [9, 8, 7], [2, 0, 1]]):
        views = some_views(pictures, seed=step)
        made |= dict(zip(pictures, embedded(method, views)[1], strict=True))
        method.losses(views, 0.0)
        method.after_step(0.0)
    order = torch.roll(method.queue.origins[:, 0], -int(method.queue.place)).tolist()
    assert order == [5, 7, 8, 9, 0, 1, 2]
    for picture, key in zip(method.queue.origins[:, 0].tolist(), method.queue.keys, strict=True):
        torch.testing.assert_close(key, made[picture], rtol=1e-5, atol=1e-6)


def test_v2_its_key_encoder_follows_and_takes_no_gradient() -> None:
    method = make(moco_v2, momentum=0.9)
    before = [p.clone() for p in method.key_encoder.parameters()]
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.add_(1.0)
    method.losses(some_views([0, 1, 2]), 0.0)["loss"].backward()
    method.after_step(0.0)
    for old, new in zip(before, method.key_encoder.parameters(), strict=True):
        assert new.grad is None
        torch.testing.assert_close(new, old + 0.1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "splits", "depends"), [("test_resnet", 2, True), ("test_resnet", 1, False), ("test_vit", 2, False)]
)
def test_v2_the_draw_matters_only_for_batch_statistics(backbone: str, splits: int, depends: bool) -> None:
    method = make(moco_v2, backbone, splits=splits)
    views = some_views(list(range(16)))
    one, two = (method.losses(views | {"draw": torch.rand(16)}, 0.0)["loss"].detach() for _ in range(2))
    assert (float(one) != float(two)) is depends


@pytest.mark.parametrize("module", [moco_v2, moco_v3])
def test_with_positives_the_second_view_is_of_the_partner(module: Any) -> None:
    light = {"brightness": 0, "contrast": 0, "gamma": 0, "noise": 0}
    method = make(module, groups="positives", **light)
    assert method.partners
    assert not make(module).partners
    white = torch.full((6, 1, SIZE, SIZE), 255, dtype=torch.uint8)
    pair = method.views(a_batch(image=white * 0, partner=white), 0.0)["pair"]
    assert float(pair[:, 0].max()) < 1e-5
    assert float(pair[:, 1].min()) > 1 - 1e-5


@torch.no_grad()
def v3_embedded(method: Any, views: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(B, 2, D) queries and keys of both views; all in one batch, as batch statistics are."""
    images = views["pair"].flatten(0, 1)
    query = normalize(method.predictor(method.head(method.encoder(images))), dim=1)
    key = normalize(method.key_head(method.key_encoder(images)), dim=1)
    return query.view(-1, 2, query.shape[1]), key.view(-1, 2, key.shape[1])


@pytest.mark.parametrize("groups", [None, [0, 0, 1, -1, -1], [3, 3, 3, 3, 3]])
def test_v3_is_the_loss_of_its_definition_both_ways(groups: list[int] | None) -> None:
    method = make(moco_v3, temperature=0.3)
    views = some_views(list(range(5)), groups)
    of = groups or [-1] * 5
    query, key = v3_embedded(method, views)
    expected = 0.0
    for mine, theirs in ((0, 1), (1, 0)):
        for i in range(5):
            others = [key[j, theirs] for j in range(5) if j != i and (of[i] < 0 or of[i] != of[j])]
            expected += 2 * 0.3 * by_definition(query[i, mine], key[i, theirs], others, 0.3) / 5
    assert float(method.losses(views, 0.0)["loss"].detach()) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_v3_is_lightly_s_where_the_bank_is_the_rest_of_the_batch() -> None:
    torch.manual_seed(0)
    query, key = normalize(torch.randn(2, 6, 8, dtype=torch.float64), dim=2).unbind(0)
    rest = [torch.cat([key[:i], key[i + 1 :]]) for i in range(6)]
    lightly = NTXentLoss(temperature=0.2, memory_bank_size=(5, 8))
    expected = 0.0
    for i in range(6):
        lightly.memory_bank.bank = rest[i]
        expected += float(lightly(query[i : i + 1], key[i : i + 1])) / 6
    negatives = (query @ key.T).masked_fill(torch.eye(6, dtype=torch.bool), float("-inf"))
    got = moco_v3.symmetric_info_nce([(query * key).sum(dim=1)] * 2, [negatives] * 2, 0.2)
    assert float(got) == pytest.approx(2 * 2 * 0.2 * expected, rel=1e-6)


def test_v3_at_chance() -> None:
    positive, negatives = [torch.zeros(4)] * 2, [torch.zeros(4, 7)] * 2
    got = moco_v3.symmetric_info_nce(positive, negatives, 0.5)
    assert float(got) == pytest.approx(4 * 0.5 * math.log(8), rel=1e-6)


def test_v3_the_order_of_the_views_does_not_matter() -> None:
    method = make(moco_v3)
    views = some_views(list(range(6)))
    one = method.losses(views, 0.0)["loss"]
    torch.testing.assert_close(method.losses(views | {"pair": views["pair"].flip(1)}, 0.0)["loss"], one)


def test_v3_a_frozen_patch_embedding_never_moves_and_the_rest_learns() -> None:
    method = make(moco_v3)
    patches = {n: p.clone() for n, p in method.encoder.body.patch_embed.named_parameters()}
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.01, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        method.losses(some_views(list(range(6)), seed=step), 0.0)["loss"].backward()
        optimizer.step()
        method.after_step(step / 3)
    for encoder in (method.encoder, method.key_encoder):
        assert all(torch.equal(patches[n], p) for n, p in encoder.body.patch_embed.named_parameters())
    learning = [p for p in method.encoder.parameters() if p.requires_grad]
    assert all(p.grad is not None and bool(p.grad.any()) for p in learning)
    assert len(learning) == len(list(method.encoder.parameters())) - len(patches)


@pytest.mark.parametrize(("backbone", "freeze"), [("test_vit", False), ("test_resnet", True)])
def test_v3_nothing_else_is_frozen(backbone: str, freeze: bool) -> None:
    assert all(p.requires_grad for p in make(moco_v3, backbone, freeze_patches=freeze).encoder.parameters())


def test_v3_the_key_encoder_stands_still_at_the_end() -> None:
    method = make(moco_v3, momentum=0.5)
    before = [p.clone() for p in method.key_encoder.parameters() if p.ndim > 1]
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.add_(1.0)
    method.after_step(1.0)
    now = [p for p in method.key_encoder.parameters() if p.ndim > 1]
    assert all(torch.equal(old, new) for old, new in zip(before, now, strict=True))
    method.after_step(0.0)
    torch.testing.assert_close(now[0], before[0] + 0.5)
