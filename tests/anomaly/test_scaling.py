"""Features at unit scale against numpy, and the refusal of what is not finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.scaling import FLOOR, Scaling, measure, require_finite, require_pictures


def test_each_channel_of_maps_and_of_vectors_gets_mean_0_and_deviation_1() -> None:
    draw = torch.Generator().manual_seed(0)
    maps = 5 + torch.tensor([0.1, 1.0, 3.0]).view(1, 3, 1, 1) * torch.randn(50, 3, 4, 5, generator=draw)
    vectors = torch.randn(50, 2, generator=draw) * torch.tensor([2.0, 3.0]) - 100
    scalings = [Scaling(3), Scaling(2)]
    measure(scalings, zip(maps.split(7), vectors.split(7), strict=True))
    assert scalings[0].mean.numpy() == pytest.approx(maps.double().numpy().mean(axis=(0, 2, 3)), rel=1e-5)
    assert scalings[0].std.numpy() == pytest.approx(maps.double().numpy().std(axis=(0, 2, 3)), rel=1e-4)
    assert scalings[1].std.numpy() == pytest.approx(vectors.double().numpy().std(axis=0), rel=1e-4)
    for scaling, features in zip(scalings, (maps, vectors), strict=True):
        scaled = scaling(features).transpose(0, 1).flatten(1)
        assert torch.allclose(scaled.mean(dim=1), torch.zeros(len(scaled)), atol=1e-3)
        assert torch.allclose(scaled.std(dim=1, correction=0), torch.ones(len(scaled)), atol=1e-3)


def test_a_channel_that_stands_still_is_raised_no_further_than_the_floor() -> None:
    features = torch.stack([torch.tensor([1.0, -1.0] * 10), torch.full((20,), 7.0)], dim=1)
    scaling = Scaling(2)
    measure([scaling], [[features]])
    assert scaling.std.tolist() == pytest.approx([1, FLOOR * 0.5])
    measure([scaling], [[torch.full((20, 2), 7.0)]])
    assert scaling.std.tolist() == [1, 1]
    assert scaling(torch.full((1, 2), 7.0)).tolist() == [[0, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_in_one_line(value: float) -> None:
    features = torch.rand(6, 3)
    features[4, 1] = value
    for action in (lambda: measure([Scaling(3)], [[features]]), lambda: require_finite(features)):
        with pytest.raises(UserError, match="features of good images are not finite") as caught:
            action()
        assert "\n" not in str(caught.value)


def test_too_few_pictures_are_refused() -> None:
    require_pictures("one_class_svm", 2)
    with pytest.raises(UserError, match="one_class_svm needs 2 good training images or more, got 1"):
        require_pictures("one_class_svm", 1)
