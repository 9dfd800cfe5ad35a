"""Colour as L*a*b*: against scikit-image where it is installed, OpenCV, and values by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_defect.pretrain.lab import colour_range, gamut_bins, lab_to_rgb, rgb_to_lab


@pytest.mark.parametrize(
    ("rgb", "lab"),  # Lindbloom's calculator, sRGB and D65
    [
        ((0, 0, 0), (0, 0, 0)),
        ((255, 255, 255), (100, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
    ],
)
def test_known_colours(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    got = rgb_to_lab(torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1) / 255).flatten()
    assert got.tolist() == pytest.approx(lab, abs=0.02)


def test_it_is_scikit_image_s() -> None:
    color = pytest.importorskip("skimage.color")
    images = torch.rand(2, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images[0] *= 0.02  # the straight part of both curves
    expected = torch.from_numpy(color.rgb2lab(images.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    torch.testing.assert_close(rgb_to_lab(images), expected, rtol=1e-9, atol=1e-9)


def test_it_is_opencv_s() -> None:
    images = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    expected = cv2.cvtColor(np.ascontiguousarray(images[0].permute(1, 2, 0).numpy()), cv2.COLOR_RGB2Lab)
    torch.testing.assert_close(rgb_to_lab(images)[0].permute(1, 2, 0), torch.from_numpy(expected), rtol=0, atol=0.4)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_back_again_it_is_the_same_colour(rgb: list[int]) -> None:
    image = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1) / 255
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(image)), image, rtol=0, atol=1e-4)


def test_colours_that_no_screen_shows_are_clamped() -> None:
    far = lab_to_rgb(torch.tensor([50.0, 300.0, -300.0]).view(1, 3, 1, 1))
    assert float(far.min()) >= 0
    assert float(far.max()) <= 1


def test_grey_has_no_colour() -> None:
    grey = torch.linspace(0, 1, 50).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    assert float(rgb_to_lab(grey)[:, 1:].abs().max()) < 0.01


def test_bins_are_squares_that_screens_have_colours_in() -> None:
    bins = gamut_bins(10)
    assert len(bins) == len({tuple(b) for b in bins.tolist()}) == 259
    assert bool((bins % 10 == 0).all())
    kept = {tuple(b) for b in bins.tolist()}
    assert {(0, 0), (80, 70), (-90, 80), (80, -110)} <= kept  # grey, pure red, green, blue
    assert (100, -100) not in kept
    images = torch.rand(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).view(1, -1, 1, 1)
    colours = rgb_to_lab(images[:, :18000].reshape(1, 3, -1, 1))[0, 1:, :, 0].T
    found = {tuple(p) for p in ((colours / 10).round() * 10).float().tolist()}
    assert len(found - kept) < 0.02 * len(found)


def test_the_range_of_colours() -> None:
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8, generator=generator).expand(4, 3, 16, 16)
    assert colour_range(grey) < 0.01
    cast = torch.tensor([220, 200, 160], dtype=torch.uint8).view(1, 3, 1, 1).expand(4, 3, 16, 16)
    assert colour_range(cast) < 0.01
    part = grey.clone()
    part[:, :, :4, :4] = torch.tensor([160, 60, 30], dtype=torch.uint8).view(3, 1, 1)  # rust on a 16th of the picture
    rust = rgb_to_lab(torch.tensor([160, 60, 30]).view(1, 3, 1, 1) / 255)[0, 1:].norm()
    assert colour_range(part) == pytest.approx(float(rust), abs=0.1)
