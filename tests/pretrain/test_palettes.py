"""What colorization shows and asks for: colours and tones by hand, and nothing of the answer in what is shown."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.nn import functional

from ssl_defect.pretrain.lab import lab_to_rgb, rgb_to_lab
from ssl_defect.pretrain.palettes import Colours, Palette, Tones, outlines
from ssl_defect.pretrain.quality import psnr


def certain(palette: Palette, target: Tensor) -> Tensor:
    """Logits that leave no doubt."""
    return functional.one_hot(target, len(palette.centres)).permute(0, 3, 1, 2).float() * 100


def smooth(count: int, channels: int, size: int = 32) -> Tensor:
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    return functional.interpolate(coarse, size=(size, size), mode="bilinear")


def test_a_cell_s_colour_is_the_nearest_square() -> None:
    palette = Colours(10, 4)
    lab = torch.tensor([[60.0, 32.0, -18.0], [60.0, -4.0, 4.0], [70.0, 0.0, 26.0]]).view(3, 3, 1, 1)
    target = palette.target(lab_to_rgb(lab).expand(3, 3, 8, 8))
    assert target.shape == (3, 2, 2)
    assert palette.centres[target[:, 0, 0]].tolist() == [[30, -20], [0, 0], [0, 30]]
    assert bool((target == target[:, :1, :1]).all())


def test_colours_at_the_rim_of_the_gamut_go_to_the_nearest_square_there_is() -> None:
    palette = Colours(10, 1)
    cube = torch.rand(4, 3, 50, 50, generator=torch.Generator().manual_seed(2)).round()  # only corners of the cube
    target = palette.target(cube)
    plane = rgb_to_lab(cube)[:, 1:]
    distance = (palette.centres[target].permute(0, 3, 1, 2) - plane).norm(dim=1)
    assert float(distance.max()) <= 10 * math.sqrt(2)


def test_only_lightness_is_shown() -> None:
    images = smooth(4, 3)
    lab = rgb_to_lab(images)
    lab[:, 1:] *= 0.5  # paler, as light as before, and within what a screen shows
    source = Colours(10, 4).source(images)
    assert source.shape == (4, 1, 32, 32)
    torch.testing.assert_close(Colours(10, 4).source(lab_to_rgb(lab)), source, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("size", "cells"), [(32, 8), (33, 9), (50, 13)])
@pytest.mark.parametrize("palette", [Colours(10, 4), Tones(8, 4)])
def test_right_answers_paint_a_picture_like_the_picture(palette: Palette, size: int, cells: int) -> None:
    images = smooth(4, 3 if isinstance(palette, Colours) else 1, size)
    target = palette.target(images)
    assert target.shape == (4, cells, cells)
    painted = palette.paint(certain(palette, target), images)
    assert painted.shape == images.shape
    wrong = palette.paint(certain(palette, target.roll(1, 0)), images)
    assert float(psnr(painted, images)) > 25
    assert float(psnr(painted, images)) > float(psnr(wrong, images)) + 6


def test_doubt_is_painted_as_the_mean() -> None:
    palette = Tones(2, 4)
    images = smooth(1, 1)
    painted = palette.paint(torch.zeros(1, 2, 8, 8), images)
    torch.testing.assert_close(painted, images.mean().expand_as(images))


def test_doubt_between_two_is_sharpened_by_the_temperature() -> None:
    palette = Tones(2, 4)
    share = torch.tensor([0.7, 0.3]).log().view(1, 2, 1, 1)
    sharper = [0.7 ** (1 / 0.38), 0.3 ** (1 / 0.38)]
    expected = norm.ppf(0.25) * sharper[0] / sum(sharper) + norm.ppf(0.75) * sharper[1] / sum(sharper)
    assert float(palette.blended(share, 4).mean()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("levels", [2, 8, 15])
def test_levels_are_equally_frequent_in_a_normal_distribution(levels: int) -> None:
    palette = Tones(levels, 1)
    assert palette.limits.tolist() == pytest.approx(norm.ppf([k / levels for k in range(1, levels)]), abs=1e-6)
    assert palette.centres.flatten().tolist() == pytest.approx(
        norm.ppf([(k + 0.5) / levels for k in range(levels)]), abs=1e-6
    )
    grey = 0.5 + 0.5 * torch.randn(1, 1, 100, 100, generator=torch.Generator().manual_seed(0))
    counts = palette.target(grey).flatten().bincount(minlength=levels)
    assert counts.tolist() == pytest.approx([10000 / levels] * levels, rel=0.12)


def test_tones_and_outlines_do_not_vary_with_exposure() -> None:
    images = smooth(4, 1) * 0.9
    darker = images * 0.6 + 0.05
    palette = Tones(8, 4)
    changed = palette.target(images) != palette.target(darker)
    assert float(changed.float().mean()) < 0.02  # those on a limit
    torch.testing.assert_close(palette.source(images), palette.source(darker), rtol=0, atol=0.1)


def test_outlines_do_not_say_which_side_is_dark() -> None:
    images = smooth(2, 1)
    torch.testing.assert_close(outlines(images), outlines(1 - images), rtol=0, atol=1e-5)


def test_outlines_lie_on_the_edge_alone() -> None:
    picture = torch.zeros(1, 1, 16, 16)
    picture[..., 8:] = 1
    drawn = outlines(picture)[0, 0]
    assert bool((drawn[:, 7:9] == 1).all())
    assert float(drawn[:, :7].max()) == float(drawn[:, 9:].max()) == 0


def test_an_even_picture_is_one_level_without_outlines() -> None:
    even = 0.5 + 0.002 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    palette = Tones(9, 4)
    assert palette.target(even).unique().tolist() == [4]
    assert float(palette.source(even).mean()) < 0.1
