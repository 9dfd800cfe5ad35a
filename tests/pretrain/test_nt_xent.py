"""NT-Xent against a hand calculation, lightly's loss and finite differences; groups against their definition.

What SimCLR does with near-copies stands here as well: whom it masks, whom it pulls, where its second view is from.
"""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from striped_parts import SIZE
from torch.nn import functional

from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.simclr import Options, SimCLR, nt_xent


def test_two_pictures_by_hand() -> None:
    one = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    two = torch.tensor([[3.0, 0.0], [1.0, 0.0]])  # agrees; is the other picture
    # cosines: a1 with b1 0, a2 1, b2 1; a2 the same; b1 with a1 0, a2 0, b2 0; b2 with a1 1, a2 1, b1 0
    e = math.e
    a = -math.log(e / (1 + e + e))
    b1, b2 = -math.log(1 / 3), -math.log(1 / (e + e + 1))
    assert float(nt_xent(one, two, temperature=1.0)) == pytest.approx((a + a + b1 + b2) / 4, abs=1e-6)


def test_chance_and_perfection() -> None:
    alike = torch.ones(8, 4)
    assert float(nt_xent(alike, alike)) == pytest.approx(math.log(15), abs=1e-5)
    apart = torch.eye(8)
    assert float(nt_xent(apart, apart, temperature=0.02)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 7, 32])
def test_without_groups_it_is_lightly_s(count: int, temperature: float) -> None:
    torch.manual_seed(count)
    one, two = torch.randn(2, count, 16, dtype=torch.float64, requires_grad=True).unbind(0)
    expected = NTXentLoss(temperature=temperature)(one, two)
    got = nt_xent(one, two, temperature=temperature)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(got, (one, two)), torch.autograd.grad(expected, (one, two)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("positives", [False, True])
@pytest.mark.parametrize("groups", [None, [0, 1, 1, 2], [3, 3, 3, 3]])
def test_its_gradient_is_that_of_finite_differences(groups: list[int] | None, positives: bool) -> None:
    torch.manual_seed(0)
    one, two = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    numbers = None if groups is None else torch.tensor(groups)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, numbers, 0.3, positives), (one, two))


def by_definition(one: torch.Tensor, two: torch.Tensor, groups: list[int], temperature: float) -> float:
    """Sum over anchors, with the near-copies left out of each denominator, pair by pair."""
    views = functional.normalize(torch.cat([one, two]), dim=1)
    count, losses = len(one), []
    for i in range(2 * count):
        mate = (i + count) % (2 * count)
        similar = {j: math.exp(float(views[i] @ views[j]) / temperature) for j in range(2 * count) if j != i}
        copies = {j for j in similar if j != mate and groups[i % count] >= 0 and groups[i % count] == groups[j % count]}
        losses.append(-math.log(similar[mate] / sum(value for j, value in similar.items() if j not in copies)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4], [0, 0, 1, 1, 1], [5, 5, 5, 5, 5], [-1, -1, 3, 3, -1]])
def test_near_copies_are_left_out_of_the_denominator(groups: list[int]) -> None:
    torch.manual_seed(1)
    one, two = torch.randn(5, 8), torch.randn(5, 8)
    got = float(nt_xent(one, two, torch.tensor(groups), 0.4))
    assert got == pytest.approx(by_definition(one, two, groups, 0.4), abs=1e-5)


@pytest.mark.parametrize("positives", [False, True])
def test_one_group_for_all_leaves_no_negatives(positives: bool) -> None:
    groups = torch.zeros(6, dtype=torch.long)
    assert float(nt_xent(torch.randn(6, 4), torch.randn(6, 4), groups, positives=positives)) == 0


def several_by_definition(one: torch.Tensor, two: torch.Tensor, groups: list[int], temperature: float) -> float:
    """Each anchor with each of its positives in turn, against the views of other groups alone."""
    views = functional.normalize(torch.cat([one, two]), dim=1)
    count, losses = len(one), []
    for i in range(2 * count):
        similar = {j: math.exp(float(views[i] @ views[j]) / temperature) for j in range(2 * count) if j != i}
        known = groups[i % count] >= 0
        positives = {j for j in similar if j % count == i % count or (known and groups[i % count] == groups[j % count])}
        negatives = sum(value for j, value in similar.items() if j not in positives)
        each = [-math.log(similar[j] / (similar[j] + negatives)) for j in positives]
        losses.append(sum(each) / len(each))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4], [0, 0, 1, 1, 1], [5, 5, 5, 5, 5], [-1, -1, 3, 3, -1]])
def test_near_copies_are_positives_each_with_each(groups: list[int]) -> None:
    torch.manual_seed(1)
    one, two = torch.randn(5, 8), torch.randn(5, 8)
    got = float(nt_xent(one, two, torch.tensor(groups), 0.4, positives=True))
    assert got == pytest.approx(several_by_definition(one, two, groups, 0.4), abs=1e-5)


def test_without_copies_in_the_batch_positives_change_nothing() -> None:
    torch.manual_seed(2)
    one, two = torch.randn(2, 6, 8).unbind(0)
    for groups in (torch.arange(6), torch.full((6,), -1), None):
        with_positives = nt_xent(one, two, groups, positives=True)
        torch.testing.assert_close(with_positives, nt_xent(one, two, groups), rtol=1e-6, atol=0)


def test_copies_are_pulled_where_they_are_positives_and_left_alone_where_they_are_masked() -> None:
    """How the loss of all others changes when one copy moves: towards its copy, not at all, or away from it."""
    torch.manual_seed(4)
    one, two = torch.randn(2, 4, 8, dtype=torch.float64).unbind(0)
    groups = torch.tensor([0, 0, 1, 2])
    slopes = {}
    for name, known, positives in (("ignore", None, False), ("mask", groups, False), ("positives", groups, True)):
        anchors = one.clone().requires_grad_()
        cosine = functional.cosine_similarity(anchors[0], anchors[1], dim=0)
        direction = torch.autograd.grad(cosine, anchors)[0]
        slope = torch.autograd.grad(nt_xent(anchors, two, known, 0.5, positives), anchors)[0]
        moved = {i: float(slope[i] @ direction[i]) for i in (0, 1)}
        slopes[name] = moved[0] + moved[1]
    assert slopes["positives"] < slopes["mask"] < slopes["ignore"]


def method(groups: str) -> SimCLR:
    torch.manual_seed(0)
    options = Options(groups=groups, crop=(1.0, 1.0), flips=False, turns=False, brightness=0, contrast=0, gamma=0)
    return SimCLR(build_encoder("test_vit", SIZE), options, Facts(1, 64, SIZE, 6, 10, 4))


@pytest.mark.parametrize("groups", ["ignore", "mask", "positives"])
def test_the_option_decides_on_masking_and_positives(groups: str) -> None:
    simclr = method(groups)
    assert simclr.partners == (groups == "positives")
    assert simclr.chance == pytest.approx(math.log(11))
    views = {"pair": torch.rand(6, 2, 1, SIZE, SIZE), "group": torch.tensor([0, 0, 0, 1, 1, -1])}
    with torch.no_grad():
        one, two = simclr.head(simclr.encoder(views["pair"].flatten(0, 1))).unflatten(0, (6, 2)).unbind(1)
        got = float(simclr.losses(views, 0.0)["loss"])
    known = views["group"].tolist()
    expected = {
        "ignore": by_definition(one, two, [-1] * 6, 0.2),
        "mask": by_definition(one, two, known, 0.2),
        "positives": several_by_definition(one, two, known, 0.2),
    }
    assert len({round(value, 4) for value in expected.values()}) == 3
    assert got == pytest.approx(expected[groups], abs=1e-5)


def test_the_second_view_is_of_the_near_copy_that_the_batch_brings() -> None:
    images = torch.full((6, 1, SIZE, SIZE), 50, dtype=torch.uint8)
    batch = {"image": images, "partner": images + 100, "group": torch.zeros(6, dtype=torch.long)}
    pair = method("positives").views(batch | {"generator": torch.Generator().manual_seed(0)}, 0.0)["pair"]
    assert float((pair[:, 0] - 50 / 255).abs().mean()) < 0.05  # but for noise
    assert float((pair[:, 1] - 150 / 255).abs().mean()) < 0.05


def test_it_is_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(3)
    one, two = torch.randn(2, 16, 32).unbind(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = nt_xent(one, two)
    assert torch.equal(got, nt_xent(one, two))
