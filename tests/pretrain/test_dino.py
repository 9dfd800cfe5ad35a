"""DINO: its loss against lightly's, the centre against its closed form, the teacher, and both ways to collapse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightly.loss import DINOLoss
from lightning_fabric import Fabric
from striped_parts import SIZE, make_recipe
from torch import Tensor

from ssl_defect.data.store import open_for_training
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.nets.momentum import rising_momentum
from ssl_defect.nets.weights import load_encoder_file
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.dino import DINO, Options, sharpened, warmed
from ssl_defect.pretrain.multi_crop import cross_view_entropy, encode
from ssl_defect.pretrain.probe import Probe
from ssl_defect.pretrain.stage import pretrain
from ssl_defect.train.optim import make_adamw

FACTS = Facts(1, 64, 32, 8, 10, 8)


@pytest.mark.parametrize("temperature", [0.03125, 0.0625])
@pytest.mark.parametrize("small", [0, 4])
def test_the_loss_is_lightly_s(small: int, temperature: float) -> None:
    torch.manual_seed(small)
    taught, centre = torch.rand(8, 2, 12, dtype=torch.float64) * 2 - 1, torch.randn(12, dtype=torch.float64) * 0.1
    outputs = (torch.rand(8, 2 + small, 12, dtype=torch.float64) * 2 - 1).requires_grad_()
    oracle = DINOLoss(output_dim=12, student_temp=0.1)
    oracle.center = centre.view(1, 1, 12)
    expected = oracle(list(taught.unbind(1)), list(outputs.unbind(1)), teacher_temp=temperature)
    got = cross_view_entropy(sharpened(taught, centre, temperature), (outputs / 0.1).log_softmax(dim=-1))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    ours, theirs = (torch.autograd.grad(loss, outputs)[0] for loss in (got, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)


def test_the_teacher_s_temperature_rises_in_a_straight_line() -> None:
    assert [warmed((0.25, 0.75), 0.5, p) for p in (0.0, 0.25, 0.5, 0.9)] == [0.25, 0.5, 0.75, 0.75]
    assert warmed((0.25, 0.75), 0.0, 0.0) == 0.75


def test_centring_and_sharpening_by_hand() -> None:
    outputs = torch.tensor([[0.3, 0.1, 0.2]])
    torch.testing.assert_close(sharpened(outputs, outputs[0], 0.01), torch.full((1, 3), 1 / 3))
    assert float(sharpened(outputs, torch.zeros(3), 0.001)[0, 0]) == pytest.approx(1)
    assert int(sharpened(outputs, torch.tensor([0.2, 0.0, 0.0]), 0.001).argmax()) == 2


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build_encoder("test_vit", 32)


def make(encoder: Encoder, **options: Any) -> DINO:
    torch.manual_seed(0)
    return DINO(encoder, Options(**{"outputs": 16, "hidden": 24, "bottleneck": 8, "local_crops": 2} | options), FACTS)


def some_views(count: int = 8, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {"global": torch.rand(count, 2, 1, 32, 32), "local": torch.rand(count, 2, 1, 16, 16)}


def test_a_whole_step_is_lightly_s(encoder: Encoder) -> None:
    method = make(encoder, teacher_temperature=(0.0625, 0.0625)).eval()
    views = some_views()
    got = method.losses(views, 0.5)["loss"]
    oracle = DINOLoss(output_dim=16)
    oracle.center = method.centre.clone().view(1, 1, 16)  # as it was used: it moves before
    _, outputs = method.head(encode(method.encoder, views))
    expected = oracle(list(method.teach(views["global"]).unbind(1)), list(outputs.unbind(1)), teacher_temp=0.0625)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)


def test_the_centre_is_the_mean_so_far_and_then_an_average_that_moves(encoder: Encoder) -> None:
    method = make(encoder, centre_momentum=0.75)  # as long as four batches
    torch.manual_seed(1)
    outputs = torch.randn(9, 5, 2, 16)
    means = outputs.mean(dim=(1, 2))
    for step, taught in enumerate(outputs):
        method.move_centre(taught)
        if step < 4:
            torch.testing.assert_close(method.centre, means[: step + 1].mean(dim=0))
    weights = torch.tensor([0.25 * 0.75**age for age in range(5)])  # of the five batches after the first four
    closed = 0.75**5 * means[:4].mean(dim=0) + (weights.flip(0).view(5, 1) * means[4:]).sum(dim=0)
    torch.testing.assert_close(method.centre, closed)


def test_the_teacher_follows_with_a_momentum_that_rises(encoder: Encoder) -> None:
    method = make(encoder, momentum=0.9)
    before = [p.clone() for p in method.teacher_head.parameters()]
    with torch.no_grad():
        for parameter in method.head.parameters():
            parameter.add_(torch.randn_like(parameter))
    method.after_step(0.25)
    momentum = rising_momentum(0.9, 0.25)
    assert 0.9 < momentum < 1
    for old, student, teacher in zip(before, method.head.parameters(), method.teacher_head.parameters(), strict=True):
        torch.testing.assert_close(teacher, momentum * old + (1 - momentum) * student)
    assert len(before) == len(list(method.head.parameters()))


def test_no_gradient_reaches_the_teacher_and_the_student_sees_all_views(encoder: Encoder) -> None:
    method = make(encoder)
    seen: dict[str, list[int]] = {"student": [], "teacher": []}
    for name, module in (("student", method.encoder), ("teacher", method.teacher_encoder)):
        module.register_forward_hook(lambda _m, inputs, _o, name=name: seen[name].append(inputs[0].shape[-1]))
    method.losses(some_views(), 0.5)["loss"].backward()
    assert seen == {"student": [32, 16], "teacher": [32]}
    assert all(p.grad is None for m in (method.teacher_encoder, method.teacher_head) for p in m.parameters())
    method.encoder.zero_grad()


def test_the_teacher_is_measured_and_handed_on(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[DINO] = []
    make_views = DINO.views

    def views(self: DINO, *step: Any) -> dict[str, Tensor]:
        trained[:] = [self]
        return make_views(self, *step)

    monkeypatch.setattr(DINO, "views", views)
    pretrain(make_recipe("dino", "test_vit", epochs=2, keep_every=2), prepared, tmp_path)
    student, teacher = trained[0].encoder.state_dict(), trained[0].teacher_encoder.state_dict()
    assert not all(torch.equal(value, student[name]) for name, value in teacher.items())
    for file in ("encoder.safetensors", "encoder-epoch-0002.safetensors"):
        saved = build_encoder("test_vit", SIZE)
        load_encoder_file(saved, tmp_path / file)
        assert all(torch.equal(value, teacher[name]) for name, value in saved.state_dict().items())
    probe = Probe(open_for_training(prepared), Fabric(accelerator="cpu", devices=1))
    measured = json.loads((tmp_path / "pretrain.json").read_text(encoding="utf-8"))
    expected = probe.measure(trained[0].teacher_encoder)
    assert measured["probe"]["after"] == pytest.approx(expected["auroc"], abs=1e-6)
    assert measured["rank"]["after"] == pytest.approx(expected["rank"], rel=1e-3)


def test_the_last_layer_stands_still_for_its_share_of_the_run(encoder: Encoder) -> None:
    method = make(encoder, freeze=0.5)
    optimizer = make_adamw([(method.head, 1e-2)], 0.1)
    start = method.head.last.vectors.detach().clone()
    for progress in (0.0, 0.25, 0.49, 0.5):
        method.losses(some_views(), progress)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(progress)
        assert torch.equal(method.head.last.vectors, start) == (progress < 0.5)


def test_a_uniform_teacher_is_seen(encoder: Encoder) -> None:
    method = make(encoder)
    with torch.no_grad():
        method.teacher_head.last.vectors.copy_(method.teacher_head.last.vectors[:1].clone().expand(16, -1))
    logs = method.losses(some_views(), 0.5)
    assert float(logs["teacher_entropy"]) == pytest.approx(1)
    assert float(logs["output_use"]) == pytest.approx(1)


def test_a_teacher_that_knows_one_dimension_is_seen(encoder: Encoder) -> None:
    method = make(encoder)
    method.batches.fill_(100)
    method.centre[3] = -100  # centring that holds one dimension up
    logs = method.losses(some_views(), 0.5)
    assert float(logs["teacher_entropy"]) == pytest.approx(0, abs=1e-6)
    assert float(logs["output_use"]) == pytest.approx(1 / 16)


def test_a_small_view_that_does_not_fit_is_refused(encoder: Encoder) -> None:
    with pytest.raises(UserError, match="local_size: views of 20 pixels do not fit test_vit"):
        DINO.build(encoder, Options(local_size=20), FACTS)


def test_near_copies_are_brought_where_they_are_positives(encoder: Encoder) -> None:
    assert make(encoder, groups="positives").partners
    assert not make(encoder).partners
