"""RankMe against values known in advance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_defect.pretrain.rank import effective_rank


@given(st.integers(1, 64))
def test_the_identity_has_full_rank(size: int) -> None:
    assert effective_rank(torch.eye(size)) == pytest.approx(size, rel=1e-4)


@given(st.integers(2, 40), st.integers(2, 40))
def test_one_direction_is_1(rows: int, width: int) -> None:
    generator = torch.Generator().manual_seed(rows * width)
    line = torch.randn(rows, 1, generator=generator) @ torch.randn(1, width, generator=generator)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)


@given(st.integers(1, 20), st.floats(1e-3, 1e3))
def test_equal_singular_values_count_their_dimensions_at_any_scale(k: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(k)
    left = torch.linalg.qr(torch.randn(50, k, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(30, k, generator=generator))[0]
    assert effective_rank(scale * left @ right.T) == pytest.approx(k, rel=1e-3)


def test_unequal_singular_values_by_hand() -> None:
    share = np.array([0.5, 0.25, 0.25]) + 1e-7
    expected = np.exp(-(share * np.log(share)).sum())
    assert expected == pytest.approx(2 * 2**0.5, rel=1e-5)  # entropy 1.5 log 2
    assert effective_rank(torch.diag(torch.tensor([6.0, 3.0, 3.0]))) == pytest.approx(expected, rel=1e-5)


def test_epsilon_is_the_paper_s() -> None:
    """Garrido et al. 2023, eq. 1: 1e-7 is added to every share, and counts where most of many are 0."""
    features = torch.zeros(600, 600)
    features[0, 0] = 5
    small = 1e-7
    expected = np.exp(-((1 + small) * np.log1p(small) + 599 * small * np.log(small)))
    assert effective_rank(features) == pytest.approx(expected, rel=1e-6)
    assert expected > 1.0009


def test_features_that_are_all_0_count_as_one_direction() -> None:
    assert effective_rank(torch.zeros(20, 8)) == pytest.approx(1, abs=1e-4)


def test_the_offset_that_all_features_share_counts_as_in_the_paper() -> None:
    x = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    assert effective_rank(x) > 14
    assert effective_rank(x + 100) < 1.5
