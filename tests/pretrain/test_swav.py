"""SwAV: Sinkhorn-Knopp against its optimality conditions, an assignment solver and lightly; loss, queue, prototypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn as lightly_sinkhorn
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.multi_crop import encode
from ssl_defect.pretrain.swav import (
    Options,
    SwAV,
    prototype_count,
    prototype_use,
    queue_length,
    sinkhorn,
    swapped_prediction,
)
from ssl_defect.train.optim import make_adamw


def cosines(*shape: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.rand(*shape, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize(("rows", "count"), [(1, 3), (16, 4), (5, 12), (64, 64)])
def test_sinkhorn_is_lightly_s(rows: int, count: int, iterations: int) -> None:
    scores = cosines(rows, count)
    expected = lightly_sinkhorn(scores, iterations=iterations, epsilon=0.05)
    torch.testing.assert_close(sinkhorn(scores, iterations, 0.05), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("rows", "count"), [(12, 4), (4, 12), (30, 30)])
def test_converged_it_is_the_one_solution_of_the_problem(rows: int, count: int) -> None:
    """The optimum of eq. 3 is the only matrix with these marginals that is exp(scores / epsilon) but for factors."""
    scores, epsilon = cosines(rows, count, seed=1), 0.2
    codes = sinkhorn(scores, 2000, epsilon)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(rows, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((count,), rows / count, dtype=torch.float64))
    rest = codes.log() - scores / epsilon  # one number per row plus one per column
    rest = rest - rest[:1] - rest[:, :1] + rest[:1, :1]
    torch.testing.assert_close(rest, torch.zeros_like(rest), rtol=0, atol=1e-9)


def test_with_hardly_any_entropy_it_is_the_best_even_assignment() -> None:
    scores = cosines(24, 6, seed=2)
    _, columns = linear_sum_assignment(np.repeat(scores.numpy(), 4, axis=1), maximize=True)  # four places each
    codes = sinkhorn(scores, 20000, 0.005)
    assert codes.argmax(dim=1).tolist() == (columns // 4).tolist()
    assert float(codes.max(dim=1).values.min()) > 0.8


def test_rows_that_do_not_count_change_nothing() -> None:
    scores = cosines(2, 10, 4)
    valid = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1, 1, 0], dtype=torch.bool)
    codes = sinkhorn(scores, valid=valid)
    torch.testing.assert_close(codes[:, valid], sinkhorn(scores[:, valid]))
    assert not codes[:, ~valid].any()


def test_each_side_is_shared_out_by_itself() -> None:
    scores = cosines(2, 10, 4)
    both = sinkhorn(scores)
    torch.testing.assert_close(both, torch.stack([sinkhorn(scores[0]), sinkhorn(scores[1])]))


def test_embeddings_that_are_all_alike_are_spread_evenly() -> None:
    alike = cosines(1, 5).expand(8, 5)
    torch.testing.assert_close(sinkhorn(alike), torch.full((8, 5), 0.2, dtype=torch.float64))


def test_the_sharpest_setting_stays_finite_in_float32() -> None:
    scores = torch.full((6, 4), -1.0)
    scores[0, 0] = 1.0  # all that the cosines can differ
    codes = sinkhorn(scores, 3, 0.03)
    assert bool(codes.isfinite().all())
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(6))


@pytest.mark.parametrize("queued", [0, 20])
@pytest.mark.parametrize("small", [0, 3])
def test_the_loss_is_lightly_s(small: int, queued: int) -> None:
    scores = cosines(8, 2 + small, 5).requires_grad_()
    queue = cosines(2, queued, 5, seed=3)
    views = list(scores.unbind(1))
    expected = SwaVLoss(temperature=0.1)(views[:2], views[2:], list(queue) if queued else None)[0]
    sides = torch.cat([scores[:, :2].transpose(0, 1), queue], dim=1)
    got = swapped_prediction(scores, sinkhorn(sides)[:, :8].transpose(0, 1), 0.1)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    ours, theirs = (torch.autograd.grad(loss, scores)[0] for loss in (got, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build_encoder("test_vit", 32)


def facts(images: int = 64, batch: int = 8) -> Facts:
    return Facts(1, images, 32, batch, 10, images // batch)


def make(encoder: Encoder, **options: Any) -> SwAV:
    torch.manual_seed(0)
    return SwAV(encoder, Options(**{"projection": 16, "local_crops": 2} | options), facts())


def some_views(count: int = 8, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {"global": torch.rand(count, 2, 1, 32, 32), "local": torch.rand(count, 2, 1, 16, 16)}


def test_a_whole_step_is_lightly_s(encoder: Encoder) -> None:
    method = make(encoder, queue=16, prototypes=6).eval()
    for seed in (1, 2):
        method.losses(some_views(seed=seed), 0.0)
    views = some_views()
    with torch.no_grad():
        features = encode(method.encoder, views)
        embedded = functional.normalize(method.head(features.flatten(0, 1)), dim=1).view(8, 4, -1)
        scores, queued = method.prototypes(embedded).unbind(1), method.prototypes(method.queue)
        expected = SwaVLoss()(list(scores[:2]), list(scores[2:]), list(queued))[0]
        got = method.losses(views, 0.5)["loss"]
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 9), batches=st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_the_queue_holds_the_latest_whatever_the_batches(encoder: Encoder, length: int, batches: list[int]) -> None:
    method = make(encoder, queue=length, projection=2)
    rows: list[int] = []
    for half in batches:  # of two processes, which hold every other row
        fresh = list(range(len(rows) + 1, len(rows) + 2 * half + 1))
        rows += fresh
        gathered = torch.tensor(fresh[::2] + fresh[1::2]).view(1, -1, 1) * torch.tensor([1.0, -1.0]).view(2, 1, 1)
        method.store(gathered.expand(2, -1, 2), processes=2)
    one, two = method.queue[:, :, 0].tolist()
    assert sorted(value for value in one if value) == rows[-length:]
    assert two == [-value for value in one]


def test_the_queue_counts_from_its_share_of_the_run_and_only_what_it_holds(encoder: Encoder) -> None:
    queued, without = make(encoder, queue=40, queue_from=0.5).eval(), make(encoder, queue=0).eval()
    views = some_views()

    def loss(method: SwAV, progress: float) -> float:
        with torch.no_grad():
            return float(method.losses(views, progress)["loss"])

    assert loss(queued, 0.5) == loss(without, 0.5)  # from the first step on, but it is empty
    queued.losses(some_views(seed=5), 0.2)
    assert loss(queued, 0.49) == loss(without, 0.49)
    assert loss(queued, 0.5) != loss(without, 0.5)


def test_prototypes_stand_still_for_their_share_of_the_run(encoder: Encoder) -> None:
    method = make(encoder, freeze=0.5)
    optimizer = make_adamw([(method.head, 1e-2), (method.prototypes, 1e-2)], 0.1)
    start = method.prototypes.vectors.detach().clone()
    for progress in (0.0, 0.25, 0.49, 0.5):
        method.losses(some_views(), progress)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(method.prototypes.vectors, start) == (progress < 0.5)


def test_use_of_prototypes_by_hand() -> None:
    assert float(prototype_use(torch.eye(4))) == pytest.approx(1)
    assert float(prototype_use(torch.eye(4).repeat(5, 1))) == pytest.approx(1)
    assert float(prototype_use(torch.eye(9)[:3])) == pytest.approx(1)  # three rows cannot use more than three
    assert float(prototype_use(torch.eye(4)[:1].expand(8, 4))) == pytest.approx(1 / 4)
    assert float(prototype_use(torch.eye(4)[:2].repeat(4, 1))) == pytest.approx(2 / 4)


def test_a_collapse_is_seen(encoder: Encoder) -> None:
    method = make(encoder, prototypes=8).eval()
    views = {name: view[:1].expand_as(view) * 0 for name, view in some_views().items()}
    logs = method.losses(views, 0.5)
    assert float(logs["prototype_use"]) == pytest.approx(1 / 8)
    assert float(logs["spread"]) == pytest.approx(0, abs=1e-4)
    assert float(logs["same_prototype"]) == 1


@pytest.mark.parametrize(
    ("images", "batch", "prototypes", "queue"),
    [(5, 2, 5, 3), (64, 16, 8, 16), (1300, 64, 130, 456), (1300, 1024, 130, 0), (10**6, 256, 3000, 11744)],
)
def test_numbers_follow_from_the_size_of_the_set(images: int, batch: int, prototypes: int, queue: int) -> None:
    options, about = Options(), facts(images, batch)
    assert prototype_count(options, about) == prototypes
    assert queue_length(options, about, prototypes) == queue


def test_more_prototypes_than_images_are_refused(encoder: Encoder) -> None:
    with pytest.raises(UserError, match="prototypes: 65 are more than the 64 training images; take 64 or less"):
        SwAV.build(encoder, Options(prototypes=65), facts())
    SwAV.check(encoder, Options(prototypes=64), facts())


def test_near_copies_are_brought_where_they_are_positives(encoder: Encoder) -> None:
    assert make(encoder, groups="positives").partners
    assert not make(encoder).partners
