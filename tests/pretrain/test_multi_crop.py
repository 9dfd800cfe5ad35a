"""Multi-crop: how many views, of what size and area, of which picture; the sizes that fit; the loss between views."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.pretrain.multi_crop import MultiCropSettings, cross_view_entropy, encode, local_size, multi_crop, strip

PLAIN: dict[str, Any] = {"brightness": 0, "contrast": 0, "gamma": 0, "noise": 0}  # no light: values say where from


def a_batch(images: Tensor, seed: int = 0, partner: Tensor | None = None) -> dict[str, Any]:
    batch = {"image": images, "generator": torch.Generator().manual_seed(seed)}
    return batch if partner is None else batch | {"partner": partner}


def grey(count: int, size: int, value: int, channels: int = 1) -> Tensor:
    return torch.full((count, channels, size, size), value, dtype=torch.uint8)


def ramps(count: int, size: int) -> Tensor:
    """Channels that hold the column and the row of each pixel."""
    column = torch.arange(size).expand(size, size)
    return torch.stack([column, column.T]).expand(count, 2, size, size).to(torch.uint8)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    whole=st.integers(16, 40),
    small=st.integers(8, 20),
    number=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_counts_and_sizes_and_the_generator(
    count: int, channels: int, whole: int, small: int, number: int, seed: int
) -> None:
    images = torch.randint(0, 256, (count, channels, whole, whole), dtype=torch.uint8)
    options = MultiCropSettings(local_crops=number)
    views = multi_crop(a_batch(images, seed), options, small)
    assert views["global"].shape == (count, 2, channels, whole, whole)
    assert set(views) == ({"global", "local"} if number else {"global"})
    assert not number or views["local"].shape == (count, number, channels, small, small)
    again, other = (
        multi_crop(a_batch(images, seed), options, small),
        multi_crop(a_batch(images, seed + 1), options, small),
    )
    for name, view in views.items():
        assert 0 <= float(view.min()) <= float(view.max()) <= 1
        assert torch.equal(view, again[name])
        assert not torch.equal(view, other[name])


@pytest.mark.parametrize("area", [(0.25, 0.5), (0.1, 0.2), (0.64, 0.64)])
def test_small_views_keep_the_share_of_the_area_that_is_asked_for(area: tuple[float, float]) -> None:
    size, small = 96, 48
    options = MultiCropSettings(local_crop=area, local_crops=8, **PLAIN)
    views = multi_crop(a_batch(ramps(32, size)), options, small)["local"] * 255
    # a turn swaps the ramps: whichever axis it runs along, a ramp rises by (small - 1) / small of the side of the crop
    inner = views[..., 4:-4, 4:-4]  # away from the border, where the outermost pixel is repeated
    spans = [inner[:, :, c].flatten(2).max(dim=2).values - inner[:, :, c].flatten(2).min(dim=2).values for c in (0, 1)]
    shares = spans[0] * spans[1] * (small / (small - 9)) ** 2 / size**2
    assert area[0] - 0.01 < float(shares.min()) <= float(shares.max()) < area[1] + 0.01
    assert float(shares.max() - shares.min()) > 0.8 * (area[1] - area[0])


@pytest.mark.parametrize("number", [1, 4, 5])
def test_a_near_copy_gives_the_second_global_view_and_half_of_the_small_ones(number: int) -> None:
    batch = a_batch(grey(3, 32, 51), partner=grey(3, 32, 204))
    views = multi_crop(batch, MultiCropSettings(local_crops=number, **PLAIN), 16)
    torch.testing.assert_close(views["global"].mean(dim=(2, 3, 4)), torch.tensor([0.2, 0.8]).expand(3, 2))
    expected = torch.tensor([0.2] * (number - number // 2) + [0.8] * (number // 2))
    torch.testing.assert_close(views["local"].mean(dim=(2, 3, 4)), expected.expand(3, number))


def test_views_of_a_picture_stay_with_it() -> None:
    images = torch.cat([grey(1, 32, value) for value in (0, 51, 102, 255)])
    views = multi_crop(a_batch(images), MultiCropSettings(local_crops=3, **PLAIN), 16)
    for view in views.values():
        expected = torch.tensor([0, 0.2, 0.4, 1]).view(4, 1).expand(4, view.shape[1])
        torch.testing.assert_close(view.mean(dim=(2, 3, 4)), expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def vit() -> Encoder:
    return build_encoder("test_vit", 80).eval()


@pytest.fixture(scope="module")
def resnet() -> Encoder:
    return build_encoder("test_resnet", 80).eval()


def test_small_views_are_half_the_picture_or_the_nearest_that_fits(vit: Encoder, resnet: Encoder) -> None:
    assert local_size(resnet, None) == 40
    assert local_size(vit, None) in (32, 48)
    assert local_size(vit, 64) == 64
    assert local_size(resnet, 33) == 33
    assert local_size(build_encoder("test_resnet", 32), None) == 32  # half would be below its coarsest stride


@pytest.mark.parametrize(("wanted", "instead"), [(50, 48), (8, 16), (200, 80)])
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(vit: Encoder, wanted: int, instead: int) -> None:
    expected = rf"local_size: views of {wanted} pixels do not fit test_vit and pictures of 80 pixels; take {instead},"
    with pytest.raises(UserError, match=expected):
        local_size(vit, wanted)


def test_one_pass_for_each_size_gives_each_view_its_features(resnet: Encoder) -> None:
    views = {"global": torch.rand(3, 2, 1, 80, 80), "local": torch.rand(3, 4, 1, 40, 40)}
    passes: list[int] = []
    hook = resnet.register_forward_hook(lambda _module, inputs, _output: passes.append(len(inputs[0])))
    features = encode(resnet, views)
    hook.remove()
    assert passes == [6, 12]
    assert features.shape == (3, 6, resnet.width)
    for picture, place, view in (
        (0, 1, views["global"][0, 1]),
        (2, 0, views["global"][2, 0]),
        (1, 5, views["local"][1, 3]),
    ):
        torch.testing.assert_close(features[picture, place], resnet(view.unsqueeze(0))[0])


@pytest.mark.parametrize("views", [2, 5])
def test_the_loss_between_views_by_its_definition(views: int) -> None:
    torch.manual_seed(0)
    targets = torch.rand(3, 2, 4, dtype=torch.float64).softmax(dim=2)
    predicted = torch.randn(3, views, 4, dtype=torch.float64).log_softmax(dim=2)
    terms = [
        -float((targets[b, t] * predicted[b, v]).sum())
        for b in range(3)
        for t in range(2)
        for v in range(views)
        if t != v
    ]
    assert len(terms) == 3 * 2 * (views - 1)
    assert float(cross_view_entropy(targets, predicted)) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_no_gradient_flows_through_the_targets() -> None:
    targets = torch.rand(3, 2, 4).requires_grad_()
    predicted = torch.randn(3, 3, 4).requires_grad_()
    cross_view_entropy(targets, predicted).backward()
    assert targets.grad is None
    assert predicted.grad is not None


@pytest.mark.parametrize("number", [0, 2])
def test_the_strip_shows_the_picture_first(number: int) -> None:
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    shown = strip(a_batch(images), MultiCropSettings(local_crops=number), 16)
    assert shown.shape == (2, 4, 1, 32, 32)
    torch.testing.assert_close(shown[:, 0], images / 255)
    assert bool((shown[:, 3] == 0.5).all()) == (number == 0)
