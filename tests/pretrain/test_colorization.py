"""Colorization: the rebalanced loss by hand, what is chosen on which set, and that colours are learnt."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.colorization import Colorization, Options, balanced_cross_entropy, class_weights
from ssl_defect.pretrain.palettes import Colours, Tones

SIZE = 32


def build(
    channels: int = 3, backbone: str = "test_resnet", size: int = SIZE, sample: Tensor | None = None, **options: Any
) -> Colorization:
    torch.manual_seed(0)
    facts = Facts(channels, 64, size, 16, 1, 4, sample)
    method = Colorization.build(build_encoder(backbone, size), Options(**options), facts)
    assert isinstance(method, Colorization)
    return method


def a_batch(images: Tensor, seed: int = 0) -> dict[str, Any]:
    return {"image": images, "generator": torch.Generator().manual_seed(seed)}


def coloured(count: int, size: int = SIZE) -> Tensor:
    """Bright parts are red and dark ones blue, of one lightness that varies."""
    generator = torch.Generator().manual_seed(0)
    coarse = functional.interpolate(torch.rand(count, 1, 4, 4, generator=generator), size=(size, size))
    red, blue = torch.tensor([200.0, 90, 70]).view(3, 1, 1), torch.tensor([20.0, 40, 120]).view(3, 1, 1)
    return (torch.where(coarse > 0.5, red, blue) + 5 * coarse).to(torch.uint8)


def test_weights_by_hand() -> None:
    """p = (1/2, 1/2, 0, 0), lambda 1/2: 1 / (1/4 + 1/8) and 1 / (1/8), scaled by the mean over cells, 8/3."""
    weights = class_weights(torch.tensor([0.5, 0.5, 0.0, 0.0]), 0.5)
    assert weights.tolist() == pytest.approx([1, 1, 3, 3])


@pytest.mark.parametrize("uniform", [0.01, 0.5, 1.0])
def test_the_mean_weight_of_a_cell_is_one_and_rare_colours_weigh_more(uniform: float) -> None:
    frequencies = torch.tensor([0.9, 0.09, 0.01])
    weights = class_weights(frequencies, uniform)
    assert float((weights * frequencies).sum()) == pytest.approx(1)
    if uniform == 1:
        assert weights.tolist() == pytest.approx([1, 1, 1])
    else:
        assert weights[0] < weights[1] < weights[2]


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]).view(1, 2, 1, 2)  # shares 1/4, 3/4 and 1/2, 1/2
    got = balanced_cross_entropy(logits, torch.tensor([[[1, 0]]]), torch.tensor([2.0, 0.5]))
    assert float(got) == pytest.approx((0.5 * math.log(4 / 3) + 2 * math.log(2)) / 2, rel=1e-6)


def test_without_weights_it_is_torch_s() -> None:
    logits, target = torch.randn(2, 5, 4, 4, dtype=torch.float64), torch.randint(0, 5, (2, 4, 4))
    got = balanced_cross_entropy(logits, target, torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(got, functional.cross_entropy(logits, target), rtol=1e-9, atol=0)


def test_halves_of_a_batch_average_to_the_whole() -> None:
    """The promise to several processes."""
    logits, target, weights = torch.randn(4, 5, 4, 4), torch.randint(0, 5, (4, 4, 4)), torch.rand(5)
    halves = [balanced_cross_entropy(logits[k::2], target[k::2], weights) for k in range(2)]
    torch.testing.assert_close(sum(halves) / 2, balanced_cross_entropy(logits, target, weights))


def test_frequencies_are_the_mean_over_all_batches_in_training_alone() -> None:
    method = build(channels=1, levels=2)
    image = torch.rand(2, 1, SIZE, SIZE)
    source = method.palette.source(image)
    targets = [torch.zeros(2, 8, 8, dtype=torch.long), torch.ones(2, 8, 8, dtype=torch.long)]
    targets += [torch.cat([targets[0][:1], targets[1][:1]])]
    for target in targets:
        method.losses({"image": image, "source": source, "target": target}, 0.0)
    assert method.frequencies.tolist() == pytest.approx([0.5, 0.5])
    method.eval()
    method.losses({"image": image, "source": source, "target": targets[0]}, 0.0)
    assert method.frequencies.tolist() == pytest.approx([0.5, 0.5])
    assert int(method.batches) == 3


def test_a_grey_set_is_coloured_in_and_that_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(build(channels=1).palette, Tones)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "colorization: the set is grey; it tells 8 grey tones from outlines instead (target: tones)",
    ]


def test_nothing_is_said_where_it_does_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(build(channels=1, target="tones").palette, Tones)
    assert isinstance(build(channels=3, target="tones").palette, Tones)
    assert isinstance(build(channels=3, sample=coloured(4)).palette, Colours)
    assert isinstance(build(channels=3, target="colour").palette, Colours)
    assert capsys.readouterr().err == ""


def test_colour_pictures_that_are_all_but_grey_are_taken_for_grey(capsys: pytest.CaptureFixture[str]) -> None:
    grey = torch.randint(30, 226, (8, 1, SIZE, SIZE), dtype=torch.uint8).expand(8, 3, SIZE, SIZE).clone()
    grey[:, 0] += 4  # a faint cast
    method = build(channels=3, sample=grey)
    assert isinstance(method.palette, Tones)
    assert "all but grey (colours within" in capsys.readouterr().err
    strips = method.pictures(a_batch(grey))
    assert strips.shape == (8, 3, 3, SIZE, SIZE)


@pytest.mark.parametrize(("channels", "reason"), [(1, "the set is grey"), (3, "the pictures are all but grey")])
def test_colour_asked_of_a_grey_set_is_one_line(channels: int, reason: str) -> None:
    sample = torch.full((2, 3, SIZE, SIZE), 128, dtype=torch.uint8) if channels == 3 else None
    with pytest.raises(UserError, match=rf"options\.target: colour cannot be told, {reason}.*auto or tones") as raised:
        build(channels=channels, sample=sample, target="colour")
    assert "\n" not in str(raised.value)


def test_the_encoder_sees_no_colour() -> None:
    method = build(sample=coloured(4))
    views = method.views(a_batch(coloured(4)), 0.0)
    assert views["source"].shape == (4, 1, SIZE, SIZE)
    assert 0 <= float(views["source"].min()) < float(views["source"].max()) <= 1


@pytest.mark.parametrize("size", [32, 33, 50])
def test_every_cell_is_told_whatever_the_size(size: int) -> None:
    method = build(size=size)
    views = method.views(a_batch(coloured(2, size)), 0.0)
    assert method.told(views["source"], views["target"]).shape == (2, 259, -(-size // 4), -(-size // 4))


def test_each_cell_is_told_from_its_own_place() -> None:
    """With one stride per cell of the map, what lies in a corner of the map is told in that corner."""
    method = build(backbone="test_vit").eval()
    maps = torch.zeros(1, method.encoder.map_width, 2, 2)
    other = maps.clone()
    other[..., 1, 0] = 1.0
    with torch.inference_mode():
        changed = (method.head(maps) != method.head(other)).any(dim=1)[0]
    rows, columns = changed.nonzero().T
    assert changed.shape == (8, 8)
    assert int(rows.min()) >= 3  # cell 4 and on, less the reach of a 3 x 3 convolution
    assert int(columns.max()) <= 4


@pytest.mark.parametrize(("backbone", "size", "cells"), [("test_vit", 48, 12), ("vit_small_patch14_dinov2", 56, 8)])
def test_cells_divide_the_stride(backbone: str, size: int, cells: int) -> None:
    method = build(backbone=backbone, size=size)
    assert method.pictures(a_batch(coloured(1, size))).shape == (1, 3, 3, size, size)
    assert method.palette.target(torch.rand(1, 3, size, size)).shape == (1, cells, cells)


def test_it_learns_colours_that_go_with_what_is_seen() -> None:
    images = coloured(64, 64)
    method = build(sample=images, size=64)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    seen = []
    for step in range(50):
        logs = method(a_batch(images[16 * (step % 4) :][:16], step), 0.0)
        logs["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append({key: float(value.detach()) for key, value in logs.items()})
    assert seen[-1]["loss"] < 0.5 * seen[0]["loss"]
    assert seen[-1]["psnr"] > seen[0]["psnr"] + 1
    assert seen[-1]["accuracy"] > 0.5
