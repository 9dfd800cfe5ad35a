"""Sub-batches in random order: the order of the images is kept, statistics are of the sub-batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.subbatches import LEAST, has_batch_norm, in_subbatches


@given(st.integers(2, 60), st.integers(1, 6))
def test_every_image_passes_once_and_comes_back_to_its_place(count: int, number: int) -> None:
    sizes: list[int] = []

    def network(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return part * 2

    images = torch.arange(count).view(-1, 1).float()
    assert torch.equal(in_subbatches(network, images, torch.rand(count), number), images * 2)
    assert sum(sizes) == count
    assert len(sizes) <= number
    assert len(sizes) == 1 or count >= LEAST * len(sizes)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_each_sub_batch_is_normalised_by_itself(number: int) -> None:
    torch.manual_seed(0)
    images, draw = torch.randn(48, 5) * 4 + 1, torch.rand(48)
    got = in_subbatches(nn.BatchNorm1d(5), images, draw, number)
    for members in draw.argsort().chunk(number):
        part = images[members]
        expected = (part - part.mean(dim=0)) / (part.var(dim=0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(got[members], expected)


def test_the_draw_shuffles_only_where_batch_statistics_take_part() -> None:
    torch.manual_seed(0)
    images, draws = torch.rand(32, 3, 32, 32), torch.rand(2, 32)
    for name, depends in (("test_resnet", True), ("test_vit", False)):
        encoder = build_encoder(name, 32).train()
        assert has_batch_norm(encoder) is depends
        with torch.no_grad():
            one, two = (in_subbatches(encoder, images, draw, 4) for draw in draws)
        assert torch.allclose(one, two, atol=1e-4) is not depends


def test_small_batches_are_not_cut() -> None:
    norm, images = nn.BatchNorm1d(3), torch.randn(2 * LEAST - 1, 3)
    torch.testing.assert_close(in_subbatches(norm, images, torch.rand(len(images)), 4), norm(images))
