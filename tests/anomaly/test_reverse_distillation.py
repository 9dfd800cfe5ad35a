"""A student of the encoder's maps: its distances by hand, what it learns, and what it leaves alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from fitting import encoder, fitted, options_of, parts, train
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_defect import pipeline
from ssl_defect.anomaly import training
from ssl_defect.config import Recipe
from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.reverse_distillation import ReverseDistillation, Student, cosine_distance

NAME = "reverse_distillation"


def untrained(backbone: str = "test_resnet", **more: Any) -> ReverseDistillation:
    torch.manual_seed(0)
    return ReverseDistillation(encoder(backbone), options_of(NAME, **more)).eval()


def test_cosine_distance_of_known_features() -> None:
    one = torch.tensor([[1.0, 0.0], [3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]).T.view(1, 2, 2, 2)
    two = torch.tensor([[0.0, 2.0], [30.0, 40.0], [-1.0, 0.0], [0.0, 0.0]]).T.view(1, 2, 2, 2)
    assert torch.allclose(cosine_distance(one, two), torch.tensor([[[1.0, 0.0], [2.0, 0.0]]]), atol=1e-6)
    draw = torch.Generator().manual_seed(0)
    one, two = (torch.randn(3, 20, 5, 4, generator=draw) for _ in range(2))
    assert torch.allclose(cosine_distance(one, two), 1 - F.cosine_similarity(one, two, dim=1), atol=1e-6)
    assert cosine_distance(one, one).abs().max() == 0


class Same(nn.Module):
    """A student that has nothing left to learn."""

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return maps


def test_equal_maps_are_at_no_distance() -> None:
    head, body = untrained(), encoder()
    head.student = Same()
    with torch.no_grad():
        found = head(body, parts(3, spot=True))
        loss = head.loss(body, parts(3), torch.Generator())["loss"]
    assert found["distance"].tolist() == [0, 0, 0]
    assert found["distances"].abs().max() == 0
    assert loss == 0


def test_the_loss_adds_the_levels_and_the_map_adds_them_at_the_finest() -> None:
    head, body, x = untrained(strides=(4, 8, 16)), encoder(), parts(2)
    with torch.no_grad():
        taught = [body.pyramid(x)[level] for level in (1, 2, 3)]
        learnt = head.student(taught)
        found, loss = head(body, x), head.loss(body, x, torch.Generator())["loss"]
    levels = [1 - F.cosine_similarity(a, b, dim=1) for a, b in zip(taught, learnt, strict=True)]
    assert [tuple(level.shape) for level in levels] == [(2, 8, 8), (2, 4, 4), (2, 2, 2)]
    assert loss.item() == pytest.approx(sum(level.mean().item() for level in levels), rel=1e-5)
    large = [F.interpolate(level[:, None], size=(8, 8), mode="bilinear")[:, 0] for level in levels]
    assert torch.allclose(found["distances"], large[0] + large[1] + large[2], atol=1e-5)
    assert torch.equal(found["distance"], found["distances"].amax(dim=(1, 2)))


@pytest.mark.parametrize(
    ("channels", "strides", "sides"),
    [
        ((16, 24, 40), (4, 8, 16), (8, 4, 2)),
        ((64, 64), (16, 16), (2, 2)),  # a plain ViT
        ((12, 20), (4, 16), (7, 2)),  # a level left out, and cells over the border
        ((12, 20, 30), (4, 8, 16), (9, 4, 2)),  # rounded down, as ConvNeXt does
        ((300,), (8,), (1,)),
    ],
)
def test_the_student_gives_maps_of_the_shapes_that_it_was_given(
    channels: tuple[int, ...], strides: tuple[int, ...], sides: tuple[int, ...]
) -> None:
    student = Student(channels, strides, 32)
    maps = [torch.randn(2, c, s, s) for c, s in zip(channels, sides, strict=True)]
    found = student(maps)
    assert [m.shape for m in found] == [m.shape for m in maps]
    torch.stack([m.square().mean() for m in found]).sum().backward()
    assert all(p.grad is not None for p in student.parameters())


def test_all_goes_through_the_embedding() -> None:
    head, body = untrained(), encoder()
    head.student.embed.register_forward_hook(lambda _, inputs, output: torch.zeros_like(output))
    with torch.no_grad():
        one, two = (head.student([body.pyramid(parts(1, seed))[level] for level in head.levels]) for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_the_loss_falls_and_nothing_but_the_student_moves(backbone: str) -> None:
    body = encoder(backbone)
    before = copy.deepcopy(body.state_dict())
    head = untrained(backbone)
    statistics = head.student.fuse[1].running_mean.clone()
    losses = train(head, body, parts())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    assert all(p.grad is None for p in body.parameters())
    assert not torch.equal(head.student.fuse[1].running_mean, statistics)


def test_the_map_rises_at_the_spot_and_less_elsewhere() -> None:
    body = encoder()
    head = fitted(NAME, body, strides=(4, 8))
    with torch.no_grad():
        good, bad = (head(body, parts(8, 1, spot))["distances"].mean(dim=0) for spot in (False, True))
    rise = bad - good  # the same noise in both
    row, column = divmod(int(rise.argmax()), 8)
    assert 4 <= row <= 7  # the spot is in rows 5 and 6 and columns 2 and 3; two strides away is what it can reach
    assert 1 <= column <= 4
    assert rise[4:8, 1:5].mean() > 5 * rise[:3, 5:].mean()


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match=r"strides: test_resnet has no map of stride 3; accepted: 2, 4, 8, 16, 32"):
        untrained(strides=(3,))
    with pytest.raises(ValidationError, match="batch_size"):
        options_of(NAME, batch_size=1)
    with pytest.raises(ValidationError, match="strides must rise"):
        options_of(NAME, strides=(8, 8))


def recipe(folder: Path) -> Recipe:
    options = {"strides": [8, 16], "width": 16, "steps": 20, "batch_size": 4}
    return Recipe.model_validate(
        {
            "name": "resumed",
            "data": {
                "source": "synthetic",
                "root": str(folder / "parts"),
                "image_size": 32,
                "copies": False,
                "options": {"good": 20, "defective": 4, "size": 32},
            },
            "model": {"backbone": "test_resnet"},
            "pretrain": {"method": "none"},
            "anomaly": {"detector": NAME, "options": options},
            "compute": {"threads": 1, "device": "cpu"},
        }
    )


def test_stopped_in_the_middle_it_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, halves = tmp_path / "one" / "run", tmp_path / "two" / "run"  # runs side by side would share their stages
    pipeline.run(recipe(tmp_path), whole, last="finetune")
    plan, note = training.Plan, training._note
    starts: list[int] = []

    def stop(here: Any, rate: float) -> None:
        if here.step == 12:
            raise KeyboardInterrupt
        note(here, rate)

    def started(here: Any, rate: float) -> None:
        starts.append(here.step)
        note(here, rate)

    monkeypatch.setattr(training, "Plan", lambda *args, **kwargs: plan(*args, **kwargs, save_every=0.0))
    monkeypatch.setattr(training, "_note", stop)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(recipe(tmp_path), halves, last="finetune")
    assert list(halves.rglob("checkpoint.pt"))
    monkeypatch.setattr(training, "_note", started)
    pipeline.run(recipe(tmp_path), halves, last="finetune")
    assert starts[0] == 12
    assert starts[-1] == 20
    expected, found = (load_file(run / "finetune" / "model.safetensors") for run in (whole, halves))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not list(halves.rglob("checkpoint.pt*"))
