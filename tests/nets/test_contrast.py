"""InfoNCE against hand calculations and lightly's loss with a memory bank; the queue against a plain list."""

from __future__ import annotations

import math
from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightly.loss import NTXentLoss
from torch import Tensor
from torch.nn.functional import normalize

from ssl_defect.nets.contrast import Queue, cosines, info_nce, mean_cosine, origins, others, share_found

NONE = float("-inf")


def test_info_nce_by_hand() -> None:
    positive, negatives = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, -1.0], [0.5, NONE]])
    e = math.exp
    first = -math.log(e(2) / (e(2) + e(0) + e(-2)))
    second = -math.log(e(0) / (e(0) + e(1)))
    assert float(info_nce(positive, [negatives], 0.5)) == pytest.approx((first + second) / 2, abs=1e-6)


def test_chance_and_no_negatives() -> None:
    alike = torch.full((5,), 0.3), torch.full((5, 12), 0.3)
    assert float(info_nce(alike[0], [alike[1]], 0.07)) == pytest.approx(math.log(13), abs=1e-6)
    assert float(info_nce(alike[0], [torch.full((5, 12), NONE)], 0.07)) == 0
    assert float(info_nce(torch.ones(3), [-torch.ones(3, 100)], 0.05)) == pytest.approx(0, abs=1e-6)


def test_it_does_not_matter_how_the_negatives_are_divided() -> None:
    torch.manual_seed(0)
    positive, negatives = torch.randn(4, 9), torch.randn(4, 9, 10)
    whole = info_nce(positive, [negatives], 0.2)
    torch.testing.assert_close(info_nce(positive, list(negatives.split([3, 7], dim=2)), 0.2), whole)
    torch.testing.assert_close(info_nce(positive.flatten(), [negatives.flatten(0, 1)], 0.2), whole)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize(("count", "size"), [(1, 3), (8, 64)])
def test_against_a_queue_it_is_lightly_s(count: int, size: int, temperature: float) -> None:
    torch.manual_seed(count)
    query, key = torch.randn(2, count, 16, dtype=torch.float64, requires_grad=True).unbind(0)
    bank = normalize(torch.randn(size, 16, dtype=torch.float64), dim=1)
    lightly = NTXentLoss(temperature=temperature, memory_bank_size=(size, 16))
    lightly.memory_bank.bank = bank.clone()
    expected = lightly(query, key)
    unit, own = normalize(query, dim=1), normalize(key, dim=1)
    negatives = cosines(unit, bank, torch.ones(count, size, dtype=torch.bool))
    got = info_nce((unit * own).sum(dim=1), [negatives], temperature)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(got, (query, key)), torch.autograd.grad(expected, (query, key)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_gradients_of_what_is_left_out_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    keys, allowed = torch.randn(5, 4, dtype=torch.float64), torch.rand(3, 5) > 0.5
    allowed[0] = False
    assert torch.autograd.gradcheck(
        lambda q: info_nce((q * keys[:3]).sum(dim=1), [cosines(q, keys, allowed)], 0.4), (query,)
    )


def test_cosines_are_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(1)
    query, keys, allowed = torch.randn(6, 32), torch.randn(9, 32), torch.rand(6, 9) > 0.2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = cosines(query, keys, allowed)
    assert torch.equal(got, cosines(query, keys, allowed))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 2)), min_size=1, max_size=5), st.data())
def test_negatives_are_neither_the_picture_nor_its_copies_nor_empty_slots(
    mine: list[tuple[int, int]], data: st.DataObject
) -> None:
    theirs = data.draw(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 2)), min_size=1, max_size=6))
    got = others(torch.tensor(mine), torch.tensor(theirs))
    for i, (picture, group) in enumerate(mine):
        for j, (other, copies) in enumerate(theirs):
            assert bool(got[i, j]) == (other >= 0 and other != picture and (group < 0 or group != copies))


def test_groups_that_are_not_masked_count_as_none() -> None:
    pictures, groups = torch.tensor([4, 7]), torch.tensor([2, 2])
    assert origins(pictures, groups).tolist() == [[4, 2], [7, 2]]
    assert origins(pictures, groups, masked=False).tolist() == [[4, -1], [7, -1]]


def test_what_is_logged_by_hand() -> None:
    negatives = torch.tensor([[0.5, NONE, 0.1], [NONE, NONE, NONE], [0.2, 0.4, 0.6]])
    assert float(mean_cosine(negatives)) == pytest.approx((0.3 + 0 + 0.4) / 3)
    found = share_found(torch.tensor([0.4, 0.4, 0.5]), [negatives[:, :2], negatives[:, 2:]])
    assert float(found) == pytest.approx(1 / 3)


def rows(pictures: list[int]) -> tuple[Tensor, Tensor]:
    """Keys that tell which picture they are of, and their origins."""
    numbers = torch.tensor(pictures)
    return torch.stack([numbers.float(), -numbers.float()], dim=1), torch.stack([numbers, numbers // 2], dim=1)


@given(st.integers(1, 12), st.lists(st.integers(1, 15), max_size=8))
def test_the_queue_is_first_in_first_out_whatever_the_sizes(size: int, batches: list[int]) -> None:
    queue, expected, begin = Queue(size, 2), deque(maxlen=size), 0
    for count in batches:
        pictures = list(range(begin, begin + count))
        queue.enqueue(*rows(pictures))
        expected.extend(pictures)
        begin += count
    turned = torch.roll(queue.origins, -int(queue.place), dims=0)[:, 0]  # oldest first, empty slots before
    assert turned[turned >= 0].tolist() == list(expected)
    assert int((queue.origins[:, 0] >= 0).sum()) == len(expected)
    there = queue.origins[:, 0] >= 0
    assert torch.equal(queue.keys[there, 0].long(), queue.origins[there, 0])
    assert torch.equal(queue.origins[there, 1], queue.origins[there, 0] // 2)


@given(st.permutations(list(range(7))))
def test_the_queue_does_not_depend_on_the_order_of_a_batch(order: list[int]) -> None:
    one, two = Queue(5, 2), Queue(5, 2)
    one.enqueue(*rows(list(range(7))))
    two.enqueue(*rows(order))
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))


def test_an_empty_queue_gives_no_negatives() -> None:
    queue = Queue(4, 2)
    assert not bool(others(torch.tensor([[0, 0]]), queue.origins).any())
    queue.enqueue(*rows([6, 8]))
    assert others(torch.tensor([[0, 0]]), queue.origins).tolist() == [[True, True, False, False]]


def test_it_is_written_in_place_and_takes_no_gradient() -> None:
    queue = Queue(4, 2)
    place = queue.keys.data_ptr()
    keys, known = rows([1, 2, 3])
    queue.enqueue(keys.requires_grad_(), known)
    assert queue.keys.data_ptr() == place
    assert not queue.keys.requires_grad
    assert not list(queue.parameters())
    assert set(queue.state_dict()) == {"keys", "origins", "place"}
