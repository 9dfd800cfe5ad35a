"""Thresholds against scikit-image and by hand, and the choice of their parameters."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_local

from ssl_defect.nets.classical.base import Labelled
from ssl_defect.nets.classical.thresholding import Adaptive, Parameters, Thresholding, clean, evidence, otsu

OPTIONS = {
    "method": "otsu",
    "score_share": 0.005,
    "polarity": "auto",
    "block": None,
    "local_mean": "gaussian",
    "opening": None,
    "min_area": 3,
}


def between(values: np.ndarray, level: float) -> float:
    """Otsu's criterion: the variance between what lies above a level and what does not."""
    low, high = values[values <= level], values[values > level]
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2


@pytest.mark.parametrize("seed", range(3))
def test_otsu_separates_as_well_as_the_best_of_all_levels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.integers(20, 90, 300), rng.integers(70, 255, 100)]).reshape(20, 20) / 255.0
    best = max(between(values, level) for level in np.unique(values)[:-1])
    assert between(values, otsu(values)) > 0.99 * best
    assert between(values, values.mean()) < 0.99 * best


def test_otsu_of_a_flat_picture_calls_nothing() -> None:
    values = np.full((8, 8), 0.4, np.float32)
    assert not (values > otsu(values)).any()


@pytest.mark.parametrize("kind", ["gaussian", "mean"])
def test_evidence_is_the_distance_from_the_local_mean(kind: str) -> None:
    grey = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    expected = grey - threshold_local(grey, 9, method=kind)
    for polarity, value in (("bright", expected), ("dark", -expected), ("both", np.abs(expected))):
        np.testing.assert_allclose(evidence(grey, Parameters(polarity, 9, 0), kind), value, atol=1e-6)
    whole = evidence(grey, Parameters("both", 0, 0), kind)
    np.testing.assert_allclose(whole, np.abs(grey - np.median(grey)), atol=1e-6)
    np.testing.assert_array_equal(evidence(grey, Parameters("dark", 0, 0), kind), -grey)


def test_specks_go_and_defects_stay() -> None:
    beyond = np.full((16, 16), -0.5, np.float32)
    beyond[2, 2] = 0.9  # one pixel
    beyond[8:12, 8:12] = 0.3
    assert np.array_equal(np.argwhere(clean(beyond, 0, 3) > 0), np.argwhere(beyond == np.float32(0.3)))
    assert clean(beyond, 0, 1)[2, 2] == np.float32(0.9)
    assert (clean(beyond, 1, 1) > 0)[9:11, 9:11].all()
    assert not (clean(beyond, 1, 1) > 0)[2, 2]


def parts(value: int, count: int = 24, seed: int = 0) -> Labelled:
    """Noise at 120 under a slow gradient; every second picture has a square that is darker or brighter by `value`."""
    rng = np.random.default_rng(seed)
    pictures = rng.normal(120, 6, (count, 32, 32, 1)) + np.linspace(-40, 40, 32)[None, None, :, None]
    masks = np.zeros((count, 32, 32), np.uint8)
    for row in range(1, count, 2):
        y, x = rng.integers(4, 24, 2)
        masks[row, y : y + 4, x : x + 4] = 1
    pictures += float(value) * masks[..., None]
    labels = np.arange(count, dtype=np.int64) % 2
    return Labelled(pictures.clip(0, 255).astype(np.uint8), labels, masks, np.arange(count, dtype=np.int64))


@pytest.mark.parametrize("kind", [Thresholding, Adaptive])
@pytest.mark.parametrize(("value", "polarity"), [(50, "bright"), (-50, "dark")])
def test_polarity_and_background_are_found_on_the_training_pictures(kind, value: int, polarity: str) -> None:
    found = kind(kind.fit(parts(value), OPTIONS), OPTIONS)
    assert found.parameters.polarity in {polarity, "both"}
    assert found.parameters.block > 0  # the gradient is stronger than the defect
    unseen = parts(value, seed=1)
    maps = found.predict(unseen.pictures)["map"]
    assert maps[unseen.masks == 1].mean() > 0.5 > np.median(maps[unseen.masks == 0])
    one_sided = OPTIONS | {"polarity": "dark" if polarity == "bright" else "bright"}
    wrong = kind(kind.fit(parts(value), one_sided), one_sided).predict(unseen.pictures)["score"]
    right = found.predict(unseen.pictures)["score"]
    apart = [score[1::2].mean() - score[::2].mean() for score in (right, wrong)]
    assert apart[0] > apart[1]


def test_masks_are_of_use_and_not_needed() -> None:
    data = parts(50)
    bare = Labelled(data.pictures, data.labels, None, data.groups)
    assert set(Thresholding.fit(data, OPTIONS)) == set(Thresholding.fit(bare, OPTIONS))


def test_good_pictures_alone_suffice() -> None:
    data = parts(50)
    good = Labelled(data.good, data.labels[data.labels == 0], None, data.groups[data.labels == 0])
    for kind in (Thresholding, Adaptive):
        found = kind(kind.fit(good, OPTIONS), OPTIONS)
        assert found.parameters == Parameters("both", 9, 0)
        score = found.predict(data.pictures)["score"]
        assert score[1::2].mean() > score[::2].mean()


def test_adaptive_offset_lets_half_a_percent_of_the_good_pixels_pass() -> None:
    data = parts(50, count=40)
    options = OPTIONS | {"min_area": 1, "opening": 0}
    maps = Adaptive(Adaptive.fit(data, options), options).predict(data.good)["map"]
    assert (maps > 0.5).mean() == pytest.approx(0.005, abs=0.0005)


def test_map_rises_strictly_with_the_deviation() -> None:
    method = Thresholding(Thresholding.fit(parts(50), OPTIONS), OPTIONS)
    made = method.to_map(np.linspace(-1, 1, 401, dtype=np.float32))
    assert (np.diff(made) > 0).all()
    assert made[200] == 0.5
    assert made.min() >= 0
    assert made.max() <= 1
