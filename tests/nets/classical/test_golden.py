"""The golden picture and the templates: planted shifts are undone, planted spots found, light does not matter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate, shift
from skimage.feature import match_template

from ssl_defect.errors import UserError
from ssl_defect.nets.classical.base import Labelled
from ssl_defect.nets.classical.golden import Golden, apart, register
from ssl_defect.nets.classical.template import Template, local_correlation

SIDE = 48
OPTIONS = {
    "method": "golden",
    "score_share": 0.005,
    "registration": "shift",
    "max_shift": 0.15,
    "patch": 0.15,
    "search": 1,
}


def pattern(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Smooth blobs, (side, side) in about [0.2, 0.8]."""
    blobs = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 3)
    return (0.5 + 0.15 * blobs / blobs.std()).clip(0.1, 0.9).astype(np.float32)


def rough(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((SIDE, SIDE)).astype(np.float32)


def shots(count: int, offsets: tuple[int, int] = (0, 0), seed: int = 1, channels: int = 1) -> np.ndarray:
    """uint8 (count, S, S, C): one part under noise, moved by `offsets`, cut from a wider picture."""
    rng, wide = np.random.default_rng(seed), pattern(side=SIDE + 12)
    y, x = 6 - offsets[0], 6 - offsets[1]
    part = wide[y : y + SIDE, x : x + SIDE, None]
    noisy = part + rng.normal(0, 0.01, (count, SIDE, SIDE, channels))
    return np.rint(255 * noisy).clip(0, 255).astype(np.uint8)


def good_ones(pictures: np.ndarray) -> Labelled:
    count = len(pictures)
    return Labelled(pictures, np.zeros(count, np.int64), None, np.arange(count, dtype=np.int64))


def fitted(kind=Golden, pictures: np.ndarray | None = None, **options) -> Golden:
    chosen = OPTIONS | options
    return kind(kind.fit(good_ones(shots(12) if pictures is None else pictures), chosen), chosen)


@pytest.mark.parametrize("move", [(0, 0), (3, -2), (-4, 5), (1.5, 0.5)])
def test_a_known_shift_is_found(move: tuple[float, float]) -> None:
    golden = pattern()
    picture = shift(golden, move, order=3, mode="reflect")
    warp = register(golden, picture, "shift", 0.2)
    np.testing.assert_allclose(warp, [[1, 0, -move[1]], [0, 1, -move[0]]], atol=0.25)


def test_a_small_turn_is_found_by_rigid_alone() -> None:
    golden = pattern()
    picture = rotate(golden, 4, reshape=False, order=3, mode="reflect")
    angle = {
        how: np.degrees(np.arctan2(w[1, 0], w[0, 0]))
        for how in ("shift", "rigid")
        for w in [register(golden, picture, how, 0.2)]
    }
    assert angle["shift"] == 0
    assert abs(angle["rigid"]) == pytest.approx(4, abs=0.5)


def test_what_has_no_common_shape_stays_where_it_is() -> None:
    flat = np.full((SIDE, SIDE), 0.5, np.float32)
    for how in ("none", "shift", "rigid"):
        np.testing.assert_array_equal(register(flat, flat, how, 0.2), np.eye(2, 3))
    beyond = register(pattern(), shift(pattern(), (20, 0), mode="wrap"), "shift", 0.1)
    assert np.abs(beyond[:, 2]).max() <= 0.1 * SIDE + 0.5


@pytest.mark.parametrize("kind", [Golden, Template])
@pytest.mark.parametrize("move", [(0, 0), (3, -4)])
def test_a_planted_spot_is_found_after_a_known_shift(kind: type[Golden], move: tuple[int, int]) -> None:
    method = fitted(kind)
    clean, spoilt = shots(1, move, seed=5), shots(1, move, seed=5)
    # a checkered spot: another texture, not only another level
    spoilt[0, 20:26, 14:20, 0] = 255 * (np.indices((6, 6)).sum(0) % 2) // 2 + 60
    found = method.predict(np.concatenate([clean, spoilt]))
    assert found["score"][1] > found["score"][0] + 0.1
    y, x = np.unravel_index(found["map"][1].argmax(), (SIDE, SIDE))
    assert 17 <= y <= 28
    assert 11 <= x <= 22
    assert (found["map"][0] > 0.5).mean() < 0.05


def test_without_registration_a_shift_looks_like_a_defect() -> None:
    moved = shots(1, (3, -4), seed=5)
    assert fitted(registration="none").predict(moved)["score"] > fitted().predict(moved)["score"] + 0.1


def test_shifted_training_pictures_give_the_golden_picture_of_still_ones() -> None:
    moves = [(0, 0), (2, 1), (-1, 2), (1, -2), (-2, -1), (0, 1), (1, 0)]
    shaken = np.concatenate([shots(2, move, seed=n) for n, move in enumerate(moves)])
    golden, still = (fitted(pictures=p).golden[8:-8, 8:-8, 0] for p in (shaken, shots(14)))
    best = max(
        np.corrcoef(golden[2:-2, 2:-2].ravel(), np.roll(still, (y, x), (0, 1))[2:-2, 2:-2].ravel())[0, 1]
        for y in range(-2, 3)
        for x in range(-2, 3)
    )
    assert best > 0.99


def test_what_the_picture_does_not_share_with_the_golden_one_is_not_judged() -> None:
    found = fitted().predict(shots(1, (5, 0), seed=5))["map"][0]
    assert (found[:4] == 0).all()
    assert (found[8:] > 0).any()


def test_deviation_counts_in_spreads_of_the_good_ones() -> None:
    """Every second column flickers by a tenth: the same difference says less there."""
    rng = np.random.default_rng(0)
    pictures = np.full((60, SIDE, SIDE, 1), 120.0)
    pictures[:, :, ::2] += rng.normal(0, 2, (60, SIDE, SIDE // 2, 1))
    pictures[:, :24] = 120 + rng.normal(0, 12, (60, 24, SIDE, 1))
    method = fitted(pictures=np.rint(pictures).clip(0, 255).astype(np.uint8), registration="none")
    odd = np.full((1, SIDE, SIDE, 1), 120, np.uint8)
    odd[0, 8:12, 8:12] = odd[0, 36:40, 8:12] = 150
    found = method.deviations(odd)[0]
    assert found[38, 10] > 2 * found[10, 10]
    np.testing.assert_allclose(method.spread[:20].mean() / method.spread[28:].mean(), 4, rtol=0.6)


def test_brightness_of_the_whole_picture_does_not_matter_to_the_difference() -> None:
    method, picture = fitted(), shots(1, seed=5)
    brighter = picture + np.uint8(15)
    np.testing.assert_allclose(method.predict(brighter)["score"], method.predict(picture)["score"], atol=1e-5)


def test_every_channel_is_looked_at() -> None:
    method = fitted(pictures=shots(12, channels=3))
    spoilt = shots(1, seed=5, channels=3)
    clean = spoilt.copy()
    spoilt[0, 20:26, 14:20, 2] = 255 - spoilt[0, 20:26, 14:20, 2]
    spoilt[0, 20:26, 14:20, 2] //= 2
    assert method.predict(spoilt)["score"] > method.predict(clean)["score"] + 0.1


def test_correlation_is_that_of_scikit_image() -> None:
    picture, golden = rough(2), rough(3)
    found = local_correlation(picture, golden, 7)
    for y, x in ((10, 10), (24, 30), (40, 7)):
        patch = slice(y - 3, y + 4), slice(x - 3, x + 4)
        expected = match_template(golden[patch], picture[patch])[0, 0]
        assert found[y, x] == pytest.approx(expected, abs=0.002)


def test_correlation_does_not_mind_brightness_and_contrast() -> None:
    picture, golden = rough(2), rough(3)
    plain = local_correlation(picture, golden, 7)
    np.testing.assert_allclose(local_correlation(picture + np.float32(0.2), golden, 7), plain, atol=1e-4)
    np.testing.assert_allclose(local_correlation(picture * np.float32(1.4), golden, 7), plain, atol=0.01)


def test_flat_patches_are_alike_and_unlike_structure() -> None:
    flat, other = np.full((16, 16), 0.3, np.float32), np.full((16, 16), 0.7, np.float32)
    structure = rough(0)[:16, :16]
    np.testing.assert_allclose(local_correlation(flat, other, 5), 1, atol=1e-6)
    assert np.abs(local_correlation(flat, structure, 5)).max() < 0.1
    np.testing.assert_allclose(local_correlation(structure, structure, 5), 1, atol=1e-6)


def test_search_forgives_a_small_move() -> None:
    moved = shots(1, (1, 1), seed=5)
    tight, loose = (fitted(Template, registration="none", search=reach).deviations(moved).mean() for reach in (0, 2))
    assert loose < 0.5 * tight


def test_one_good_picture_is_enough_and_none_is_refused() -> None:
    found = fitted(pictures=shots(1)).predict(shots(3, seed=4))
    assert np.isfinite(found["map"]).all()
    bad = Labelled(shots(2), np.ones(2, np.int64), None, np.arange(2, dtype=np.int64))
    with pytest.raises(UserError, match="'golden' needs labelled good training images"):
        Golden.fit(bad, OPTIONS)


def test_difference_forgets_exposure_and_what_is_not_covered() -> None:
    golden, cover = rough(0)[..., None], np.ones((SIDE, SIDE), bool)
    cover[:, :10] = False
    picture = golden + np.float32(0.2)
    picture[:, :10] = 9
    np.testing.assert_allclose(apart(picture, golden, cover), 0, atol=1e-6)
    picture[20, 30] += 1  # a unit of difference is spread by the smoothing, none is lost
    assert apart(picture, golden, cover).sum() == pytest.approx(1, abs=1e-3)
