"""BYOL's loss by hand and against lightly's; what its target does; that it names its collapse when its parts fail."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from striped_parts import SIZE, make_recipe, write_prepared
from torch import Tensor, nn

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain import byol
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.byol import BYOL, Options, regression_loss
from ssl_defect.pretrain.stage import pretrain

FACTS = Facts(1, 64, SIZE, 16, 10, 4)


def build(backbone: str = "test_resnet", **options: Any) -> BYOL:
    torch.manual_seed(0)
    return BYOL(build_encoder(backbone, SIZE), Options(hidden=32, projection=8, **options), FACTS)


def a_batch(**more: Tensor) -> dict[str, Any]:
    torch.manual_seed(1)
    images = torch.randint(0, 256, (6, 1, SIZE, SIZE), dtype=torch.uint8)
    return {"image": images, "generator": torch.Generator().manual_seed(0)} | more


def online(method: BYOL) -> list[Tensor]:
    return [*method.encoder.parameters(), *method.projector.parameters()]


def test_the_loss_by_hand() -> None:
    predicted = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [3.0, 4.0]])
    target = torch.tensor([[5.0, 0.0], [0.0, -3.0], [-1.0, 1.0], [1.0, 0.0]])
    # cosines 1, -1, 0, 0.6
    assert float(regression_loss(predicted, target)) == pytest.approx((0 + 4 + 2 + 0.8) / 4, abs=1e-6)


def test_it_is_the_squared_distance_of_unit_vectors() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 50, 9, dtype=torch.float64).unbind(0)
    apart = (a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)).square().sum(dim=1)
    torch.testing.assert_close(regression_loss(a, b), apart.mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("count", [1, 2, 33])
def test_it_is_lightly_s(count: int) -> None:
    torch.manual_seed(count)
    a, b = torch.randn(2, count, 16, dtype=torch.float64).unbind(0)
    a.requires_grad_()
    got, expected = regression_loss(a, b), 2 + 2 * NegativeCosineSimilarity()(a, b)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    ours, theirs = (torch.autograd.grad(loss, a)[0] for loss in (got, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)


def test_no_gradient_flows_into_the_target() -> None:
    a, b = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    regression_loss(a, b).backward()
    assert a.grad is not None
    assert b.grad is None


def test_it_is_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(3)
    a, b = torch.randn(2, 16, 32).unbind(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = regression_loss(a, b)
    assert torch.equal(got, regression_loss(a, b))


def test_each_view_predicts_the_target_of_the_other() -> None:
    """The loss of a step is that of both directions, one view at a time."""
    method = build("test_vit").eval()  # statistics of BatchNorm that hang on no other view
    views = {"pair": torch.rand(6, 2, 1, SIZE, SIZE) * torch.rand(6, 2, 1, 1, 1)}
    one, two = views["pair"].unbind(1)
    with torch.no_grad():
        for parameter in method.target.parameters():
            parameter.mul_(1.1)  # else target and network are one

        def ahead(view: Tensor) -> Tensor:
            return method.predictor(method.projector(method.encoder(view)))  # type: ignore[no-any-return]

        both = regression_loss(ahead(one), method.target(two)) + regression_loss(ahead(two), method.target(one))
        same = regression_loss(ahead(one), method.target(one)) + regression_loss(ahead(two), method.target(two))
        got = method.losses(views, 0.0)["loss"]
    torch.testing.assert_close(got, both / 2, rtol=1e-5, atol=1e-6)
    assert abs(float(got - same / 2)) > 1e-3


def test_the_target_follows_in_closed_form() -> None:
    """With a network that stands still, n steps leave the product of the momenta of the first distance."""
    method = build(momentum=0.5)
    first = [p.clone() for p in method.target.parameters()]
    with torch.no_grad():
        for parameter in online(method):
            parameter.add_(1.0)
    momenta = [0.5, 0.573223, 0.75, 0.926777]  # 1 - 0.5 (cos(pi step / 4) + 1) / 2
    for step, momentum in enumerate(momenta):
        assert float(method(a_batch(), step / 4)["momentum"]) == pytest.approx(momentum, abs=1e-5)
        method.after_step(step / 4)
    left = math.prod(momenta)
    for now, before in zip(method.target.parameters(), first, strict=True):
        torch.testing.assert_close(now, before + 1 - left, rtol=0, atol=1e-5)


def test_the_target_starts_as_the_network_and_the_last_step_leaves_it() -> None:
    method = build()
    assert all(torch.equal(a, b) for a, b in zip(method.target.parameters(), online(method), strict=True))
    assert not any(p.requires_grad for p in method.target.parameters())
    with torch.no_grad():
        method.projector[0].weight.add_(1.0)
    before = [p.clone() for p in method.target.parameters()]
    method.after_step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(method.target.parameters(), before, strict=True))


def test_near_copies_are_the_second_view_where_they_are_asked_for() -> None:
    assert not build().partners
    method = build(groups="positives", crop=(1.0, 1.0), flips=False, turns=False, brightness=0, contrast=0, gamma=0)
    assert method.partners
    partner = torch.full((6, 1, SIZE, SIZE), 200, dtype=torch.uint8)
    batch = a_batch(partner=partner)
    pair = method.views(batch, 0.0)["pair"]
    assert float((pair[:, 0] - batch["image"] / 255).abs().mean()) < 0.05  # but for noise
    assert float((pair[:, 1] - partner / 255).abs().mean()) < 0.05


class Bare(BYOL):
    """Without its predictor, and with a target that does not lag: nothing keeps it from a constant."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.predictor = nn.Identity()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Bare, BYOL])
def test_without_predictor_and_lag_it_collapses_and_is_named(
    kind: type[BYOL], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dozen steps are enough to collapse; an epoch has 24 here, so the second shows nothing else."""
    prepared = write_prepared(tmp_path / "prepare", 288)
    changes: dict[str, Any] = {"batch_size": 8, "warmup": 0.0, "learning_rate": 1e-2}
    recipe = make_recipe("byol", "test_vit", **changes, options={"momentum": 0.0} if kind is Bare else {})
    monkeypatch.setattr(byol, "METHOD", kind)
    named = r"byol collapsed in epoch [12]: all embeddings are alike.*raise pretrain\.options\.momentum"
    with pytest.raises(UserError, match=named) if kind is Bare else nullcontext():
        pretrain(recipe, prepared, tmp_path / "out")
    assert (tmp_path / "out" / "encoder.safetensors").exists() == (kind is BYOL)
