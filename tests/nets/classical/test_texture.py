"""Texture features by hand and against scikit-image, and classifiers that come out the same again."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import gabor
from sklearn.metrics import roc_auc_score

from ssl_defect.errors import UserError
from ssl_defect.nets.classical import features, texture
from ssl_defect.nets.classical.base import Labelled
from ssl_defect.nets.classical.texture import Texture

SIDE = 32
STRIPES = np.tile(np.array([[0, 255]], np.uint8), (SIDE, SIDE // 2))  # columns of 0 and 255


def uniform_codes(grey: np.ndarray) -> np.ndarray:
    """Uniform rotation-invariant codes of 8 neighbours at radius 1 inside (S, S), by the definition, on the square.

    The four diagonal neighbours lie between pixels; only pictures where that makes no difference may be given.
    """
    ring = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
    inner = grey[1:-1, 1:-1].astype(int)
    bits = np.stack([grey[1 + y : len(grey) - 1 + y, 1 + x : len(grey) - 1 + x] >= inner for y, x in ring]).astype(int)
    changes = np.abs(np.diff(np.concatenate([bits, bits[:1]]), axis=0)).sum(0)
    return np.where(changes <= 2, bits.sum(0), 9)


def test_lbp_of_a_flat_picture_is_one_pattern() -> None:
    found = features.lbp(np.full((SIDE, SIDE), 7, np.uint8))
    assert found.shape == (10 + 18 + 26,)
    assert found.sum() == pytest.approx(3)
    # every neighbour is as bright as the centre
    assert found[8] == found[10 + 16] == found[28 + 24] == 1


def test_lbp_of_stripes_is_what_the_definition_gives() -> None:
    broad = np.repeat(np.tile(np.array([[0, 255]], np.uint8), (SIDE, 4)), 4, axis=1)  # 4 pixels wide
    codes = uniform_codes(broad)
    np.testing.assert_allclose(features.lbp(broad)[:10], np.bincount(codes.ravel(), minlength=10) / codes.size)


def test_lbp_ignores_a_monotone_change_of_light() -> None:
    grey = np.random.default_rng(0).integers(0, 120, (SIDE, SIDE), dtype=np.uint8)
    np.testing.assert_allclose(features.lbp(grey), features.lbp(2 * grey + 8), atol=0.005)
    assert np.abs(features.lbp(grey) - features.lbp(255 - grey)).max() > 0.01


def test_glcm_of_stripes_by_hand() -> None:
    found = dict(zip(features.PROPERTIES, features.glcm(STRIPES).reshape(5, 2, 3), strict=True))
    # along the stripes always equal, across them as the distance is odd or even; a diagonal of 1, 2 and 4 goes 1, 1
    # and 3 columns across
    for place, contrast in enumerate(31.0**2 * np.array([[1, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1]])):
        assert found["contrast"][0, place] == pytest.approx(contrast.mean())
        assert found["contrast"][1, place] == pytest.approx(31**2)
        assert found["dissimilarity"][0, place] == pytest.approx(contrast.mean() / 31)
        correlation = 1 - 2 * contrast / 31**2
        assert found["correlation"][0, place] == pytest.approx(correlation.mean(), abs=0.01)
        assert found["energy"][0, place] == pytest.approx(np.sqrt(0.5), abs=0.01)
        assert found["energy"][1, place] == pytest.approx(0, abs=0.01)


def test_gabor_is_that_of_scikit_image() -> None:
    grey = np.random.default_rng(0).random((SIDE, SIDE)).astype(np.float32)
    found = features.gabor_magnitudes(grey)
    for number in (0, 4, 7, 17):
        frequency = features.FREQUENCIES[number // features.ORIENTATIONS]
        theta = np.pi * (number % features.ORIENTATIONS) / features.ORIENTATIONS
        real, imaginary = gabor(grey, frequency, theta, mode="reflect")
        np.testing.assert_allclose(found[number], np.hypot(real, imaginary), atol=1e-4)


def test_gabor_answers_most_to_its_own_stripes() -> None:
    x = np.arange(SIDE)
    waves = (127 + 100 * np.sin(2 * np.pi * 0.2 * x))[None].repeat(SIDE, 0).astype(np.uint8)
    means = features.gabor(waves)[:18]
    assert means.argmax() == features.ORIENTATIONS  # 0.2 cycles per pixel along x
    assert features.gabor(waves.T)[:18].argmax() == features.ORIENTATIONS + features.ORIENTATIONS // 2


@pytest.mark.parametrize(("method", "width"), [("lbp", 54), ("glcm", 30), ("gabor", 36), ("texture", 120)])
def test_features_have_their_width_and_are_finite(method: str, width: int) -> None:
    for grey in (np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 255, np.uint8), STRIPES):
        found = features.describe(grey, method)
        assert found.shape == (width,)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


def cloths(count: int = 48, seed: int = 0) -> Labelled:
    """Fine noise; the defective ones have coarse noise in a quarter."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(60, 200, (count, SIDE, SIDE, 1), dtype=np.uint8)
    coarse = rng.integers(60, 200, (count, 8, 8), dtype=np.uint8).repeat(2, 1).repeat(2, 2)
    pictures[1::2, :16, :16, 0] = coarse[1::2]
    labels = np.arange(count, dtype=np.int64) % 2
    return Labelled(pictures, labels, None, np.arange(count, dtype=np.int64) // 4, seed)


@pytest.mark.parametrize("classifier", ["svm", "adaboost", "forest"])
@pytest.mark.parametrize("method", ["lbp", "glcm", "gabor", "texture"])
def test_tells_coarse_from_fine(method: str, classifier: str) -> None:
    options = {"method": method, "classifier": classifier}
    unseen = cloths(40, seed=1)
    score = Texture(Texture.fit(cloths(), options), options).predict(unseen.pictures)["score"]
    assert roc_auc_score(unseen.labels, score) > 0.85
    assert score.min() >= 0
    assert score.max() <= 1


@pytest.mark.parametrize("classifier", ["svm", "adaboost", "forest"])
def test_fitted_again_it_says_exactly_the_same(classifier: str) -> None:
    options = {"method": "glcm", "classifier": classifier}
    fitted = Texture.fit(cloths(), options)
    first, second = Texture(fitted, options), Texture(dict(fitted), options)
    pictures = cloths(20, seed=3).pictures
    np.testing.assert_array_equal(first.predict(pictures)["score"], second.predict(pictures)["score"])
    again = Texture.fit(cloths(), options)
    assert all(np.array_equal(again[name], value) for name, value in fitted.items())


def test_another_outcome_than_at_fitting_is_refused() -> None:
    options = {"method": "glcm", "classifier": "svm"}
    fitted = Texture.fit(cloths(), options)
    with pytest.raises(UserError, match="comes out otherwise with the scikit-learn installed here"):
        Texture(fitted | {"check": fitted["check"] + np.float32(0.01)}, options)


def test_near_copies_are_never_on_both_sides_of_the_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = cloths(), []
    rows = {each.tobytes(): group for each, group in zip(np.arange(48.0)[:, None], data.groups, strict=True)}
    real = texture.fit_classifier

    def spy(name: str, penalty: float, seed: int, x: np.ndarray, labels: np.ndarray):
        seen.append({rows[row.tobytes()] for row in x})
        return real(name, penalty, seed, x, labels)

    monkeypatch.setattr(texture, "fit_classifier", spy)
    monkeypatch.setattr(texture, "raw_scores", lambda name, made, x: seen.append({rows[r.tobytes()] for r in x}) or 0)
    texture._unseen(np.arange(48.0)[:, None], data, 1.0)
    assert len(seen) == 2 * texture.FOLDS
    for fitted, held in zip(seen[::2], seen[1::2], strict=True):
        assert not fitted & held


def test_the_calibrated_score_is_a_probability_on_pictures_not_seen() -> None:
    """Features that say nothing: scores stay near one half, where a sigmoid fitted on seen pictures would be sure."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (60, SIDE, SIDE, 1), dtype=np.uint8)
    labels = np.arange(60, dtype=np.int64) % 2
    options = {"method": "texture", "classifier": "svm"}
    data = Labelled(pictures, labels, None, np.arange(60, dtype=np.int64))
    score = Texture(Texture.fit(data, options), options).predict(pictures)["score"]
    assert np.abs(score - 0.5).max() < 0.35


def test_two_labels_are_enough() -> None:
    data = cloths(2)
    options = {"method": "texture", "classifier": "svm"}
    fitted = Texture.fit(data, options)
    assert float(fitted["slope"]) == 1
    assert np.diff(Texture(fitted, options).predict(data.pictures)["score"]) > 0


@pytest.mark.parametrize(("label", "name"), [(0, "good"), (1, "defective")])
def test_one_class_is_refused(label: int, name: str) -> None:
    data = Labelled(cloths(4).pictures, np.full(4, label), None, np.arange(4))
    with pytest.raises(UserError, match=rf"are all {name} and method 'lbp' needs good and defective"):
        Texture.fit(data, {"method": "lbp", "classifier": "svm"})
