"""VICReg's terms by hand, its loss against lightly's, and what the logs say of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightly.loss import VICRegLoss
from striped_parts import SIZE
from torch import Tensor
from torch.nn import functional

from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.vicreg import Options, VICReg, covariance_term, variance_term

FACTS = Facts(1, 64, SIZE, 6, 10, 4)


def build(**options: Any) -> VICReg:
    torch.manual_seed(0)
    return VICReg(build_encoder("test_vit", SIZE), Options(hidden=32, **options), FACTS)


def some_views() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"pair": torch.rand(6, 2, 1, SIZE, SIZE)}


def embeddings(method: VICReg, views: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    both: Tensor = method.expander(method.encoder(views["pair"].flatten(0, 1)))
    return both[::2], both[1::2]


def test_the_variance_by_hand() -> None:
    x = torch.tensor([[0.0, 5.0, 0.0], [0.6, 5.0, 4.0], [1.2, 5.0, 8.0]])
    # deviations 0.6, 0 and 4 (over B - 1): short of 1 by 0.4, 1 and nothing
    assert float(variance_term(x, epsilon=0.0)) == pytest.approx((0.4 + 1 + 0) / 3, abs=1e-6)
    shortfalls = 1 - math.sqrt(0.36 + 1e-4), 1 - math.sqrt(1e-4), 0.0
    assert float(variance_term(x)) == pytest.approx(sum(shortfalls) / 3, abs=1e-6)
    assert float(variance_term(x, target=5.0, epsilon=0.0)) == pytest.approx((4.4 + 5 + 1) / 3, abs=1e-6)


def test_the_covariance_by_hand() -> None:
    x = torch.tensor([[-1.0, -2.0, 7.0], [0.0, 0.0, 9.0], [1.0, 2.0, 7.0]])
    # centred: (-1, 0, 1), (-2, 0, 2), (-2/3, 4/3, -2/3); covariances 2, 0 and 0, each counted twice
    assert float(covariance_term(x)) == pytest.approx(2 * 2**2 / 3, abs=1e-6)
    assert float(covariance_term(x[:, [0, 2]])) == pytest.approx(0, abs=1e-6)


def test_the_invariance_by_hand() -> None:
    """The mean square over all B * D numbers, as in the authors' code."""
    method, views = build(embedding=5), some_views()
    one, two = (x.detach() for x in embeddings(method, views))
    expected = sum(float((a - b) ** 2) for a, b in zip(one.flatten(), two.flatten(), strict=True)) / 30
    assert float(method.losses(views, 0.0)["invariance"]) == pytest.approx(expected, rel=1e-5)


def test_a_constant_embedding_has_a_variance_term_of_one_and_a_way_out() -> None:
    x = torch.ones(8, 4, requires_grad=True)
    value = variance_term(x)
    assert float(value.detach()) == pytest.approx(1 - 0.01, abs=1e-6)
    value.backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


@given(st.integers(2, 9), st.integers(1, 7), st.floats(-50, 50), st.integers(0, 99))
def test_neither_term_feels_a_shift_nor_an_order(count: int, width: int, shift: float, seed: int) -> None:
    x = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    moved = (x + shift)[torch.randperm(count, generator=torch.Generator().manual_seed(seed))]
    for term in (variance_term, covariance_term):
        assert float(term(moved)) == pytest.approx(float(term(x)), rel=1e-6, abs=1e-9)
        assert float(term(x)) >= -1e-12


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 4.0), (0.0, 3.0, 0.5)])
@pytest.mark.parametrize("width", [3, 64])
def test_the_loss_of_a_step_is_lightly_s(weights: tuple[float, float, float], width: int) -> None:
    method = build(invariance=weights[0], variance=weights[1], covariance=weights[2], embedding=width)
    views = some_views()
    got = method.losses(views, 0.0)["loss"]
    expected = VICRegLoss(*weights)(*embeddings(method, views))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    parameters = list(method.expander.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(got, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [2, 7, 64])
def test_the_terms_add_up_to_lightly_s_in_float64(count: int) -> None:
    torch.manual_seed(count)
    one, two = torch.randn(2, count, 16, dtype=torch.float64, requires_grad=True).unbind(0)
    variance = (variance_term(one) + variance_term(two)) / 2
    covariance = covariance_term(one) + covariance_term(two)
    got = 25 * functional.mse_loss(one, two) + 25 * variance + covariance
    expected = VICRegLoss()(one, two)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(got, (one, two)), torch.autograd.grad(expected, (one, two)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_the_logged_terms_are_those_of_the_loss() -> None:
    method, views = build(invariance=2.0, variance=3.0, covariance=5.0), some_views()
    logs = {key: float(value.detach()) for key, value in method.losses(views, 0.0).items()}
    one, two = embeddings(method, views)
    assert logs["variance"] == pytest.approx(float((variance_term(one) + variance_term(two)).detach()) / 2, rel=1e-5)
    assert logs["covariance"] == pytest.approx(float((covariance_term(one) + covariance_term(two)).detach()), rel=1e-5)
    weighted = 2 * logs["invariance"] + 3 * logs["variance"] + 5 * logs["covariance"]
    assert logs["loss"] == pytest.approx(weighted, rel=1e-6)
    assert logs["agreement"] == pytest.approx(float(functional.cosine_similarity(one, two).detach().mean()), abs=1e-5)


def test_the_embedding_is_four_times_the_batch_wide_unless_it_is_given() -> None:
    assert build().expander[-1].out_features == 4 * FACTS.batch_size
    assert build(embedding=7).expander[-1].out_features == 7


def test_a_batch_spans_no_more_than_its_pictures_so_a_wide_embedding_cannot_be_uncorrelated() -> None:
    """Why the width follows the batch: with unit variances the covariance term is D / (B - 1) - 1 or more."""
    torch.manual_seed(0)
    for count, width in ((8, 4), (8, 32), (8, 512)):
        x = torch.randn(count, width, dtype=torch.float64)
        x = (x - x.mean(dim=0)) / x.std(dim=0)
        assert float(covariance_term(x)) >= width / (count - 1) - 1 - 1e-9
    assert float(covariance_term(x)) == pytest.approx(512 / 7 - 1, rel=0.05)


def test_near_copies_are_the_second_view_where_they_are_asked_for() -> None:
    assert not build().partners
    method = build(groups="positives", crop=(1.0, 1.0), flips=False, turns=False, brightness=0, contrast=0, gamma=0)
    assert method.partners
    images = torch.full((6, 1, SIZE, SIZE), 50, dtype=torch.uint8)
    batch = {"image": images, "partner": images + 100, "generator": torch.Generator().manual_seed(0)}
    pair = method.views(batch, 0.0)["pair"]
    assert float((pair[:, 0] - 50 / 255).abs().mean()) < 0.05  # but for noise
    assert float((pair[:, 1] - 150 / 255).abs().mean()) < 0.05
