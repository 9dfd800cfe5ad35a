"""Poisson blending against a direct sparse solution, OpenCV's, and what follows from the equation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from ssl_defect.data.poisson import Patches, blend, dirichlet, random_patches


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def directly(right: np.ndarray) -> np.ndarray:
    """The field with zeros around it whose 5-point Laplacian is `right` (h, w)."""
    height, width = right.shape
    matrix = lil_matrix((height * width, height * width))
    for y in range(height):
        for x in range(width):
            here = y * width + x
            matrix[here, here] = -4
            for down, across in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                if 0 <= y + down < height and 0 <= x + across < width:
                    matrix[here, here + down * width + across] = 1
    return np.asarray(spsolve(matrix.tocsr(), right.ravel())).reshape(height, width)


def test_dirichlet_is_the_direct_solution_for_rectangles_of_any_size() -> None:
    right = torch.randn(4, 2, 12, 12, generator=generator(), dtype=torch.float64)
    sides = torch.tensor([[12, 12], [1, 1], [5, 12], [9, 4]])
    found = dirichlet(right, sides)
    for number, (height, width) in enumerate(sides.tolist()):
        for channel in range(2):
            expected = np.zeros((12, 12))
            expected[:height, :width] = directly(right[number, channel, :height, :width].numpy())
            np.testing.assert_allclose(found[number, channel].numpy(), expected, rtol=1e-10, atol=1e-12)


@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_laplacian_of_the_solution_is_the_right_hand_side(height: int, width: int, seed: int) -> None:
    right = torch.randn(1, 1, 20, 20, generator=generator(seed), dtype=torch.float64)
    field = torch.nn.functional.pad(dirichlet(right, torch.tensor([[height, width]])), (1, 1, 1, 1))
    laplacian = (
        field[:, :, 2:, 1:-1] + field[:, :, :-2, 1:-1] + field[:, :, 1:-1, 2:] + field[:, :, 1:-1, :-2]
    ) - 4 * field[:, :, 1:-1, 1:-1]
    inside = (..., slice(height), slice(width))
    torch.testing.assert_close(laplacian[inside], right[inside], rtol=1e-9, atol=1e-9)


def test_float32_is_exact_enough_for_pictures() -> None:
    right = torch.rand(2, 3, 100, 100, generator=generator()) - 0.5
    sides = torch.tensor([[100, 100], [90, 40]])
    exact = dirichlet(right.double(), sides)
    assert float((dirichlet(right, sides) - exact).abs().max() / exact.abs().max()) < 1e-5


def smooth(count: int, channels: int, size: int, seed: int) -> Tensor:
    rough = torch.rand(count, channels, 6, 6, generator=generator(seed))
    images = torch.nn.functional.interpolate(rough, size=size, mode="bicubic").clamp(0, 1)
    return 0.3 + 0.4 * images


def as_cut(top: int, left: int, height: int, width: int, most: int, source: tuple[int, int]) -> Patches:
    return Patches(
        torch.tensor([[top, left]]),
        torch.tensor([[height, width]]),
        torch.tensor([source], dtype=torch.float32),
        torch.ones(1),
        most,
    )


def by_definition(image: np.ndarray, other: np.ndarray, box: tuple[int, int, int, int], mixed: bool) -> np.ndarray:
    """The picture with the rectangle's colour gradients from `other`, by pixels (Perez et al. 2003, eq. 7, 11, 12)."""
    top, left, height, width = box
    right = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            for down, across in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                here, there = (top + y, left + x), (top + y + down, left + x + across)
                own, foreign = image[there] - image[here], other[there] - other[here]
                right[y, x] += own if mixed and abs(own) > abs(foreign) else foreign
                if not (0 <= y + down < height and 0 <= x + across < width):
                    right[y, x] -= image[there]
    result = image.copy()
    result[top : top + height, left : left + width] = directly(right)
    return result


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("box", [(20, 12, 15, 15), (1, 1, 3, 20), (22, 23, 17, 22)])
def test_it_blends_as_the_direct_solution_does(mixed: bool, box: tuple[int, int, int, int]) -> None:
    image, other = smooth(1, 1, 48, 0), smooth(1, 1, 48, 1)
    top, left, height, width = box
    patches = as_cut(top, left, height, width, 22, (top - 1, left - 1))
    found = blend(image, other, patches, torch.tensor([mixed]))[0]
    expected = by_definition(image[0, 0].double().numpy(), other[0, 0].double().numpy(), box, mixed)
    np.testing.assert_allclose(found[0, 0].numpy(), expected.clip(0, 1), atol=2e-6)
    assert np.abs(expected - image[0, 0].numpy()).max() > 0.005


def test_a_piece_of_the_picture_itself_changes_nothing_and_a_shift_of_brightness_is_lost() -> None:
    image = smooth(1, 1, 48, 3)
    patches = as_cut(10, 15, 20, 12, 20, (9, 14))
    for other in (image, (image + 0.2)):
        blended, inside = blend(image, other, patches, torch.tensor([False]))
        torch.testing.assert_close(blended, image, atol=1e-5, rtol=0)
    assert int(inside.sum()) == 20 * 12
    assert bool(inside[0, 0, 10:30, 15:27].all())


def test_mixed_gradients_keep_the_picture_where_the_piece_is_flat() -> None:
    image = smooth(1, 1, 48, 3)
    flat, patches = torch.full_like(image, 0.5), as_cut(10, 15, 20, 12, 20, (9, 14))
    torch.testing.assert_close(blend(image, flat, patches, torch.tensor([True]))[0], image, atol=1e-6, rtol=0)
    assert float((blend(image, flat, patches, torch.tensor([False]))[0] - image).abs().max()) > 0.01


@pytest.mark.parametrize("channels", [1, 3])
@given(size=st.integers(32, 100), seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_nothing_outside_moves_and_edges_have_no_seam(channels: int, size: int, seed: int) -> None:
    images, others = smooth(8, channels, size, seed), smooth(8, channels, size, seed + 1)
    patches = random_patches(8, size, generator(seed), (0.06, 0.4), (0.7, 1.3))
    mixed = torch.arange(8) % 2 == 0
    blended, inside = blend(images, others, patches, mixed)
    outside = ~inside.expand_as(images)
    assert torch.equal(blended[outside], images[outside])
    assert bool(((blended >= 0) & (blended <= 1)).all())
    assert torch.equal(inside.sum(dim=(1, 2, 3)), patches.sides.prod(dim=1).long())
    steps, before = (
        blended.diff(dim=3).abs(),
        torch.maximum(images.diff(dim=3).abs().max(), others.diff(dim=3).abs().max()),
    )
    assert float(steps.max()) < 4 * float(before)


@given(size=st.integers(32, 256), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_patches_keep_their_range_and_lie_within(size: int, seed: int) -> None:
    patches = random_patches(100, size, generator(seed), (0.06, 0.4), (0.7, 1.3))
    assert torch.equal(patches.sides, patches.sides.round())
    assert float(patches.sides.min()) >= max(3, int(0.06 * size))
    assert float(patches.sides.max()) <= patches.most <= 0.4 * size
    assert float(patches.corner.min()) >= 1
    assert float((patches.corner + patches.sides).max()) <= size - 1
    assert float(patches.source.min()) >= 0
    reach = patches.source + ((patches.most + 2) / patches.scale).unsqueeze(1)
    assert float(reach.max()) <= size + 1e-3
    assert bool(((patches.scale >= 0.69) & (patches.scale <= 1.31)).all())


def test_twice_as_large_a_piece_has_a_quarter_of_the_curvature() -> None:
    image = torch.full((1, 1, 48, 48), 0.5)
    bowl = ((torch.arange(48) - 24.0).square() / 4000).expand(1, 1, 48, 48)
    corner, sides, source = torch.tensor([[10, 10]]), torch.tensor([[9, 9]]), torch.tensor([[4.0, 18.0]])
    depths = []
    for scale in (1.0, 2.0):
        patches = Patches(corner, sides, source, torch.tensor([scale]), 9)
        depths.append(float((blend(image, bowl, patches, torch.tensor([False]))[0] - image).sum()))
    assert depths[0] < -0.05
    assert depths[1] / depths[0] == pytest.approx(0.25, rel=0.1)
