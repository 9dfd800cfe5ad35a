"""SSIM against scikit-image, differences pixel by pixel, and an autoencoder that needs no encoder."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fitting import SIZE, encoder, fitted, options_of, parts, train
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from ssl_defect.nets.anomaly.autoencoder import Autoencoder, Hourglass
from ssl_defect.nets.anomaly.differences import REACH, difference, ssim_map

NAME = "autoencoder"


def pair(channels: int = 1, size: int = 40, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    one = torch.rand(2, channels, size, size, generator=draw)
    one[1] = 0.7 + 0.01 * one[1]  # next to flat, where second moments about 0 lose their digits
    two = one + noise * torch.randn(one.shape, generator=draw)
    return one, two


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("noise", [0.003, 0.2])
def test_ssim_is_that_of_scikit_image(channels: int, noise: float) -> None:
    one, two = pair(channels, noise=noise)
    found = ssim_map(one, two).numpy()
    for i in range(2):
        expected = structural_similarity(
            one[i].double().numpy(),
            two[i].double().numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )[1]
        inside = slice(REACH, -REACH)  # there a window lies whole in the picture
        assert np.abs(found[i] - expected)[:, inside, inside].max() < 1e-5


@pytest.mark.parametrize("place", [(0, 0), (3, 20), (39, 38)])
def test_at_the_border_ssim_is_of_the_part_of_the_window_that_exists(place: tuple[int, int]) -> None:
    one, two = pair()
    rows, columns = (np.arange(max(0, at - 5), min(40, at + 6)) for at in place)
    weights = np.exp(-((rows[:, None] - place[0]) ** 2 + (columns - place[1]) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    a, b = (x[0, 0].double().numpy()[np.ix_(rows, columns)] for x in (one, two))
    p, q = (weights * a).sum(), (weights * b).sum()
    shared, spread = (weights * (a - p) * (b - q)).sum(), (weights * ((a - p) ** 2 + (b - q) ** 2)).sum()
    expected = (2 * p * q + 1e-4) * (2 * shared + 9e-4) / ((p * p + q * q + 1e-4) * (spread + 9e-4))
    assert ssim_map(one, two)[0, 0][place].item() == pytest.approx(expected, abs=1e-5)


def test_differences_by_hand() -> None:
    one, two = pair(3)
    assert torch.allclose(difference(one, two, "l2"), ((one - two) ** 2).mean(dim=1))
    assert torch.allclose(difference(one, two, "ssim"), (1 - ssim_map(one, two)).mean(dim=1), atol=1e-6)
    for kind in ("l2", "ssim"):
        assert difference(one, one, kind).max() < 1e-6
        assert difference(one, one, kind).min() >= 0
        assert difference(one, two, kind).shape == (2, 40, 40)


class Good(nn.Module):
    """Paints the good part, whatever it is shown."""

    def __init__(self, good: Tensor) -> None:
        super().__init__()
        self.good = good

    def forward(self, x: Tensor) -> Tensor:
        return self.good.expand(len(x), 3, -1, -1)


def bare(**more: Any) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(encoder(), options_of(NAME, **more)).eval()


@pytest.mark.parametrize("place", [(0, 0), (0, 17), (16, 9), (31, 31)])
@pytest.mark.parametrize(("error", "reach"), [("l2", 0), ("ssim", REACH)])
def test_one_pixel_raises_the_map_there_and_nowhere_else(error: str, reach: int, place: tuple[int, int]) -> None:
    head, good = bare(error=error), parts(1)
    head.painter = Good(good)
    bad = good.clone()
    bad[0, 0][place] += 0.4
    found = head(encoder(), bad)["distances"][0]
    row, column = place
    near = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    near[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
    assert found[place] > 0.1
    assert found[~near].max() < 1e-5
    shown = head.predict(head(encoder(), bad))["map"][0]
    peak = divmod(int(shown.argmax()), SIZE)
    assert max(abs(peak[0] - row), abs(peak[1] - column)) <= (1 if error == "l2" else 3)
    assert shown.amax() == pytest.approx(head.predict(head(encoder(), bad))["score"].item(), rel=1e-5)


def test_trained_it_shows_a_single_pixel() -> None:
    head, good = fitted(NAME, encoder()), parts(4, 3)
    for place in ((0, 0), (15, 3), (31, 20)):
        bad = good.clone()
        bad[:, 0, place[0], place[1]] = 1.0
        with torch.no_grad():
            rise = (head(encoder(), bad)["distances"] - head(encoder(), good)["distances"]).mean(dim=0)
        assert divmod(int(rise.argmax()), SIZE) == place
        rise[place] = 0
        assert rise.abs().max() < 0.02  # against about 0.25 in its place


@pytest.mark.parametrize("size", [8, 24, 33, 50, 64, 100])
def test_pictures_of_any_size_pass_through_a_short_code(size: int) -> None:
    glass = Hourglass(size, 8, 5)
    assert glass.sides[-1] <= 8
    assert glass(torch.rand(2, 3, size, size)).shape == (2, 3, size, size)
    assert glass.encode.out_features == glass.decode.in_features == 5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("error", ["l2", "ssim"])
def test_grey_and_colour(channels: int, error: str) -> None:
    head, x = bare(error=error), parts(2).expand(-1, channels, -1, -1)
    painted = head.painted(x)
    assert painted.shape == x.shape
    loss = head.loss(encoder(), x, torch.Generator())["loss"]
    assert loss.item() == pytest.approx(difference(x, painted, error).mean().item(), rel=1e-5)


@pytest.mark.parametrize("error", ["l2", "ssim"])
def test_the_loss_falls_and_no_encoder_is_needed(error: str) -> None:
    class Unused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the encoder was asked")

    pattern = (torch.arange(SIZE) % 8 < 4).float() * 0.3  # noise alone has no structure that could be learnt
    good = parts() + pattern
    head = bare(error=error)
    losses = train(head, Unused(), good)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert torch.isfinite(head(SimpleNamespace(), good)["distance"]).all()


def test_the_encoder_is_left_alone() -> None:
    body = encoder()
    before = copy.deepcopy(body.state_dict())
    train(bare(steps=3), body, parts())
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
