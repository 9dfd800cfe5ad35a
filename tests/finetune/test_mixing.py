"""mixup and CutMix by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_defect.finetune.mixing import blend, box, mix, paste

COUNT, SIDE = 6, 8


def numbered() -> tuple[Tensor, Tensor]:
    """Picture i is i everywhere; its label is class i."""
    images = torch.arange(COUNT, dtype=torch.float32).view(-1, 1, 1, 1).expand(COUNT, 2, SIDE, SIDE)
    return images.contiguous(), torch.eye(COUNT)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_blend_by_hand() -> None:
    images, targets = numbered()
    mixed, labels = blend(images, targets, torch.tensor([1, 2, 3, 4, 5, 0]), 0.75)
    assert mixed[1].unique().tolist() == [0.75 * 1 + 0.25 * 2]
    assert mixed[5].unique().tolist() == [0.75 * 5]
    assert labels[1].tolist() == [0, 0.75, 0.25, 0, 0, 0]


def test_paste_by_hand() -> None:
    images, targets = numbered()
    before = images.clone()
    mixed, labels = paste(images, targets, torch.tensor([1, 0, 2, 3, 4, 5]), (slice(0, 2), slice(5, 8)))
    assert bool((mixed[0, :, 0:2, 5:8] == 1).all())
    assert (mixed[0] == 1).sum() == 2 * 6
    assert bool((mixed[2] == 2).all())
    assert labels[0].tolist() == pytest.approx([1 - 6 / 64, 6 / 64, 0, 0, 0, 0])
    assert torch.equal(images, before)


def test_the_box_by_hand() -> None:
    assert box(8, 8, (4, 4), 0.75) == (slice(2, 6), slice(2, 6))  # sides of half the picture
    assert box(8, 8, (0, 7), 0.75) == (slice(0, 2), slice(5, 8))  # cut off at the border
    assert box(8, 8, (4, 4), 1.0) == (slice(4, 4), slice(4, 4))
    assert box(8, 4, (4, 2), 0.0) == (slice(0, 8), slice(0, 4))


@given(st.integers(0, 10_000), st.floats(0.05, 5))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_labels_are_what_the_pictures_are_made_of(seed: int, parameter: float) -> None:
    images, targets = numbered()
    weighed = torch.arange(COUNT).float()
    for mixup, cutmix in ((parameter, 0.0), (0.0, parameter), (parameter, parameter)):
        mixed, labels = mix(images, targets, mixup, cutmix, seeded(seed))
        torch.testing.assert_close(labels.sum(1), torch.ones(COUNT))
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), labels @ weighed, atol=1e-5, rtol=0)


def test_off_changes_nothing() -> None:
    images, targets = numbered()
    mixed, labels = mix(images, targets, 0.0, 0.0, seeded())
    assert mixed is images
    assert labels is targets


def test_a_pure_function_of_the_seed() -> None:
    images, targets = numbered()
    first, again, other = (mix(images, targets, 1.0, 1.0, seeded(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mixup_shares_follow_the_beta_distribution() -> None:
    images, targets = numbered()
    shares = []
    for seed in range(400):
        _, labels = mix(images, targets, 0.4, 0.0, seeded(seed))
        partner = labels.diagonal()
        shares.append(partner[partner < 1].mean().item() if bool((partner < 1).any()) else 1.0)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert np.var(shares) == pytest.approx(0.25 / 1.8, abs=0.02)  # ab / ((a + b)^2 (a + b + 1))


def test_with_both_on_each_has_half_of_the_batches() -> None:
    images, targets = numbered()
    whole = [bool((torch.tensor([len(p.unique()) for p in mix(images, targets, 1.0, 1.0, seeded(s))[0]]) == 1).all())
             for s in range(200)]  # fmt: skip
    assert 70 < sum(whole) < 130


def test_the_gradient_goes_through() -> None:
    images, targets = numbered()
    images.requires_grad_()
    for mixup, cutmix in ((1.0, 0.0), (0.0, 1.0)):
        mixed, _ = mix(images, targets, mixup, cutmix, seeded(1))
        (slope,) = torch.autograd.grad(mixed.sum(), images)
        torch.testing.assert_close(slope.sum(), torch.tensor(float(images.numel())))
