"""Views against torchvision and against what they must be by analysis."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as tv

from ssl_defect.data.augment import (
    Crop,
    adjust_light,
    gaussian_blur,
    random_blur,
    random_geometry,
    random_light,
    random_noise,
    resample_weights,
    to_float,
)

WHOLE = Crop(scale=(1.0, 1.0), ratio=(1.0, 1.0))


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def resized(pictures: Tensor, out: int) -> Tensor:
    zeros, size = torch.zeros(len(pictures)), pictures.shape[-1]
    weights = resample_weights(zeros, torch.full_like(zeros, size), size, out).unsqueeze(1)
    return weights @ pictures @ weights.transpose(2, 3)


@pytest.mark.parametrize("out", [7, 16, 24, 48, 65])
def test_resampling_is_torchvision_s_antialiased_resize(out: int) -> None:
    pictures = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(resized(pictures, out), tv.resize(pictures, [out, out], antialias=True))


def test_a_crop_is_grid_sampling_of_its_box() -> None:
    pictures = torch.rand(5, 1, 32, 32)
    geometry = random_geometry(5, 32, seeded(), Crop(flips=False, turns=False))
    top, left, height, width = geometry.boxes.unbind(1)
    theta = torch.zeros(5, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width / 32, (2 * left + width) / 32 - 1
    theta[:, 1, 1], theta[:, 1, 2] = height / 32, (2 * top + height) / 32 - 1
    grid = functional.affine_grid(theta, [5, 1, 32, 32], align_corners=False)
    expected = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(geometry.apply(pictures), expected, atol=1e-4, rtol=0)


def dihedral(picture: Tensor) -> list[Tensor]:
    turned = [torch.rot90(picture, k, (1, 2)) for k in range(4)]
    return turned + [torch.flip(x, (2,)) for x in turned]


@pytest.mark.parametrize(
    ("flips", "turns", "allowed"),
    [(False, False, {0}), (True, False, {0, 2, 4, 6}), (False, True, {0, 1, 2, 3}), (True, True, set(range(8)))],
)
def test_flips_and_turns_are_the_symmetries_of_the_square(flips: bool, turns: bool, allowed: set[int]) -> None:
    picture = torch.rand(1, 6, 6)
    crop = Crop(scale=(1.0, 1.0), ratio=(1.0, 1.0), flips=flips, turns=turns)
    views = random_geometry(200, 6, seeded(), crop).apply(picture.expand(200, 1, 6, 6))
    names = dihedral(picture)
    found = [[i for i, name in enumerate(names) if torch.allclose(view, name, atol=1e-5)] for view in views]
    assert all(len(which) == 1 for which in found)
    counts = torch.bincount(torch.tensor(found).flatten(), minlength=8)
    assert {i for i in range(8) if counts[i]} == allowed
    share = 200 / len(allowed)
    assert all(abs(int(counts[i]) - share) < 5 * math.sqrt(share) for i in allowed)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**30), st.floats(0.1, 1.0))
def test_crops_stay_inside_and_keep_the_area_they_announce(seed: int, least: float) -> None:
    geometry = random_geometry(16, 40, seeded(seed), Crop(scale=(least, 1.0)))
    top, left, height, width = geometry.boxes.unbind(1)
    assert bool((top >= -1e-3).all() & (left >= -1e-3).all())
    assert bool((top + height <= 40.001).all() & (left + width <= 40.001).all())
    area, ratio = height * width / 1600, width / height
    assert bool((area >= least - 1e-4).all() & (area <= 1.0001).all())
    assert bool((ratio >= 0.7499).all() & (ratio <= 1.3334).all())
    torch.testing.assert_close(geometry.rows.sum(dim=2), torch.ones(16, 40))
    torch.testing.assert_close(geometry.columns.sum(dim=2), torch.ones(16, 40))


def test_masks_move_with_their_pictures() -> None:
    masks = (torch.rand(8, 1, 32, 32, generator=seeded()) > 0.9).to(torch.uint8)
    geometry = random_geometry(8, 32, seeded(1))
    moved = geometry.apply_mask(masks)
    assert moved.dtype == torch.uint8
    assert torch.equal(moved, (geometry.apply(masks.float()) >= 0.5).to(torch.uint8))
    whole = random_geometry(8, 32, seeded(1), WHOLE)
    assert torch.equal(whole.apply_mask(masks).sum(dim=(1, 2, 3)), masks.sum(dim=(1, 2, 3)))


def test_views_of_another_size() -> None:
    pictures = torch.rand(3, 3, 32, 32)
    crop = Crop(scale=(1.0, 1.0), ratio=(1.0, 1.0), flips=False, turns=False, size=12)
    expected = tv.resize(pictures, [12, 12], antialias=True)
    torch.testing.assert_close(random_geometry(3, 32, seeded(), crop).apply(pictures), expected)


def test_light_is_torchvision_s_gamma_brightness_and_contrast() -> None:
    pictures = torch.rand(4, 1, 16, 16)
    brightness, contrast, gamma = torch.tensor([[1.0, 0.7, 1.3, 1.0], [1.0, 1.0, 0.6, 1.5], [1.0, 1.2, 0.8, 1.0]])
    got = adjust_light(pictures, brightness, contrast, gamma)
    for i, picture in enumerate(pictures):
        x = tv.adjust_gamma(picture, gamma[i].item())
        x = tv.adjust_contrast(tv.adjust_brightness(x, brightness[i].item()), contrast[i].item())
        torch.testing.assert_close(got[i], x, atol=1e-5, rtol=0)


def test_light_of_strength_0_changes_nothing() -> None:
    pictures = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(random_light(pictures, seeded(), 0, 0, 0), pictures, atol=2e-6, rtol=0)


def test_noise_has_the_deviation_it_was_asked_for() -> None:
    grey = torch.full((400, 1, 32, 32), 0.5)
    levels = random_noise(grey, seeded(), 0.04).std(dim=(1, 2, 3))
    assert 0.018 < float(levels.mean()) < 0.022  # uniform in [0, 0.04]
    assert float(levels.max()) < 0.044
    assert random_noise(grey, seeded(), 0.0) is grey


def test_blur_is_torchvision_s_away_from_the_border() -> None:
    pictures = torch.rand(2, 1, 40, 40)
    got = gaussian_blur(pictures, torch.tensor([0.8, 1.5]))
    for i, sigma in enumerate((0.8, 1.5)):
        expected = tv.gaussian_blur(pictures[i], kernel_size=[15, 15], sigma=[sigma, sigma])
        torch.testing.assert_close(got[i, :, 8:-8, 8:-8], expected[:, 8:-8, 8:-8], atol=1e-5, rtol=0)


def test_blur_spares_its_share_and_flat_pictures() -> None:
    pictures = torch.rand(200, 1, 8, 8)
    changed = (random_blur(pictures, seeded(), 2.0, share=0.3) - pictures).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 40 <= int(changed.sum()) <= 80
    flat = torch.full((3, 1, 8, 8), 0.4)
    torch.testing.assert_close(gaussian_blur(flat, torch.tensor([0.0, 1.0, 5.0])), flat)
    assert torch.equal(gaussian_blur(pictures[:2], torch.zeros(2)), pictures[:2])


def test_a_view_is_a_function_of_picture_and_seed() -> None:
    def view(seed: int) -> Tensor:
        generator = seeded(seed)
        x = random_geometry(4, 16, generator).apply(pictures)
        return random_noise(random_light(random_blur(x, generator, 1.0), generator, 0.2, 0.2, 0.2), generator, 0.05)

    pictures = torch.rand(1, 1, 16, 16).expand(4, 1, 16, 16)
    one, two, other = view(0), view(0), view(1)
    assert torch.equal(one, two)
    assert not torch.allclose(one, other)
    assert not torch.allclose(one[0], one[1])  # each picture has its own draw
    assert 0 <= float(one.min()) <= float(one.max()) <= 1


def test_views_keep_float32_under_autocast() -> None:
    pictures = torch.rand(2, 1, 16, 16)
    plain = random_geometry(2, 16, seeded()).apply(pictures)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(random_geometry(2, 16, seeded()).apply(pictures), plain)


def test_bytes_become_the_unit_interval() -> None:
    assert to_float(torch.tensor([[0, 51, 255]], dtype=torch.uint8)).tolist() == [[0.0, pytest.approx(0.2), 1.0]]
