"""NSA: pieces of other pictures, targets by how much they change, and what is handed over."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from striped_parts import SIZE

from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.heads import SegmentationHead
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.nsa import NSA, Options, change_target, other_parts


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(size: int = SIZE, **options: Any) -> NSA:
    torch.manual_seed(0)
    facts = Facts(1, 64, size, 16, 10, 4)
    method = NSA.build(build_encoder("test_resnet", size), Options(**{"decoder_width": 8} | options), facts)
    assert isinstance(method, NSA)
    return method


def a_batch(images: torch.Tensor) -> dict[str, Any]:
    return {"image": images, "group": torch.full((len(images),), -1), "generator": generator(1)}


def test_the_target_by_hand() -> None:
    before = torch.zeros(1, 1, 3, 3)
    lowest = 1 / (1 + math.exp(2))
    for change in (0.0, 0.1, 0.2, 1.0):
        expected = (1 / (1 + math.exp(-(change - 0.1) / 0.05)) - lowest) / (1 - lowest)
        found = change_target(before, before + change, 0.1, 0.05)
        torch.testing.assert_close(found, torch.full_like(before, expected), atol=1e-6, rtol=1e-5)
    assert float(change_target(before, before, 0.1, 0.05).max()) == pytest.approx(0, abs=1e-7)


def test_the_target_is_the_mean_over_channels_and_neighbours() -> None:
    before, after = torch.zeros(1, 3, 5, 5), torch.zeros(1, 3, 5, 5)
    after[0, 1, 2, 2] = 0.9  # 0.3 over the channels, 1/30 over nine pixels
    found = change_target(before, after, 0.1, 0.05)
    same = change_target(torch.zeros(1, 1, 3, 3), torch.full((1, 1, 3, 3), 1 / 30), 0.1, 0.05)
    torch.testing.assert_close(found[0, 0, 1:4, 1:4], same[0, 0])
    assert float(found[0, 0, 0].max()) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("groups", [[0, 0, 1, 1, 2, 2], [-1] * 6, [3, 3, 3, 3, 3, 0]])
def test_pieces_come_from_another_part_where_there_is_one(groups: list[int]) -> None:
    numbers = torch.tensor(groups)
    met = [set() for _ in groups]
    for seed in range(60):
        for own, other in enumerate(other_parts(numbers, generator(seed)).tolist()):
            assert own != other
            assert groups[own] < 0 or groups[own] != groups[other]
            met[own].add(other)
    for own, group in enumerate(groups):
        assert met[own] == {i for i, g in enumerate(groups) if i != own and (group < 0 or g != group)}


def test_where_all_are_near_copies_pieces_come_from_one_of_these() -> None:
    assert other_parts(torch.zeros(2, dtype=torch.long), generator()).tolist() == [1, 0]
    assert other_parts(torch.zeros(1, dtype=torch.long), generator()).tolist() == [0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 71])
def test_targets_mark_what_changed_and_nothing_else_did(channels: int, size: int) -> None:
    images = torch.rand(20, channels, size, size, generator=generator())
    method = make(size, good=0.25)
    changed, target = method.blemish(images, a_batch(images))
    difference = (changed - images).abs().mean(dim=1, keepdim=True)
    assert bool(((target >= 0) & (target <= 1)).all())
    # beside the border of a piece the mean over 3x3 pixels still sees the change; beyond, there is none
    assert float((difference * (target == 0)).max()) < 1e-4
    assert bool(((changed >= 0) & (changed <= 1)).all())
    good = target.flatten(1).amax(dim=1) == 0
    assert int(good.sum()) == 5
    assert torch.equal(changed[good], images[good])
    assert float(target[~good].flatten(1).amax(dim=1).min()) > 0.1
    again = method.blemish(images, a_batch(images))
    assert torch.equal(again[0], changed)
    assert torch.equal(again[1], target)


def test_the_loss_of_a_perfect_prediction_is_the_entropy_of_the_targets() -> None:
    method = make(image=0.0)
    target = torch.rand(4, 1, SIZE, SIZE, generator=generator()) * 0.98 + 0.01
    method.outline = lambda images: (torch.logit(target), torch.zeros(4, method.encoder.width))  # type: ignore
    logs = method.losses({"image": target, "target": target}, 0.0)
    entropy = -(target * target.log() + (1 - target) * (1 - target).log()).mean()
    torch.testing.assert_close(logs["loss"], entropy)
    assert float(logs["error"]) == pytest.approx(0, abs=1e-6)
    assert float(logs["iou"]) == 1


def test_it_hands_over_a_whole_segmentation_head() -> None:
    method = make()
    head = SegmentationHead(method.encoder, [], {"decoder_width": 8, "score_share": 0.1})
    head.load_state_dict(method.handover())
    assert {name.partition(".")[0] for name in method.handover()} == {"decoder", "last"}


@pytest.mark.parametrize("wrong", [{"sides": (0.1, 0.7)}, {"sides": (0.4, 0.2)}, {"resize": (0.1, 1.0)}])
def test_wrong_ranges_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rising"):
        Options(**wrong)
