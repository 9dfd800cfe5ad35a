"""Thresholds: the best on validation by brute force, midway between scores, with stated fallbacks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from ssl_defect.evaluate.regions import count_pixels, totals
from ssl_defect.evaluate.thresholds import image_threshold, pixel_threshold


def test_midway_between_the_neighbouring_scores():
    found = image_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9]))
    assert found.value == pytest.approx(0.4)
    assert found.rule == "max F1 on validation"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=30))
def test_no_other_threshold_has_a_larger_f1(pairs):
    labels, scores = np.array(pairs).T
    labels[:2] = [0, 1]
    scores = scores / 9
    chosen = f1_score(labels, scores >= image_threshold(labels, scores).value)
    assert chosen == pytest.approx(max(f1_score(labels, scores >= level) for level in scores))


def test_of_equal_f1_the_highest():
    # at 0.9: P 1, R 1/2, F1 2/3; at 0.1: P 1/2, R 1, F1 2/3
    found = image_threshold(np.array([1, 0, 0, 1]), np.array([0.9, 0.5, 0.3, 0.1]))
    assert found.value == pytest.approx(0.7)


def test_good_images_alone_give_a_stated_quantile_of_false_alarms():
    scores = np.linspace(0, 1, 1001)
    found = image_threshold(np.zeros(1001), scores)
    assert (scores >= found.value).mean() == pytest.approx(0.05, abs=0.0015)
    assert "quantile of the good validation scores" in found.rule
    constant = image_threshold(np.zeros(5), np.full(5, 0.2))
    assert not (np.full(5, 0.2) >= constant.value).any()


def test_the_expected_share_of_false_alarms_is_what_new_good_parts_show():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(4000):
        found = image_threshold(np.zeros(39), rng.random(39), "quantile", 0.9)
        shares.append(1 - found.value)  # of uniform scores, exactly
    told = found.false_alarms
    assert told["expected"] == pytest.approx(4 / 40)  # the 36th of 39
    assert np.mean(shares) == pytest.approx(told["expected"], abs=0.003)
    assert np.quantile(shares, [0.025, 0.975]) == pytest.approx([told["low"], told["high"]], abs=0.01)


def test_too_few_good_images_say_what_they_can_promise():
    found = image_threshold(np.zeros(4), np.array([0.1, 0.2, 0.3, 0.4]), "quantile", 0.99)
    assert found.value > 0.4
    assert found.false_alarms["expected"] == pytest.approx(1 / 5)


def test_a_quantile_looks_at_no_defect():
    labels, scores = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.9, 0.25])
    found = image_threshold(labels, scores, "quantile", 0.6)
    other = image_threshold(labels, np.array([0.1, 0.2, 0.3, 0.0, 0.0]), "quantile", 0.6)
    assert found.value == other.value == np.nextafter(0.3, 1)  # rank ceil(0.6 * 4) = 3
    assert image_threshold(labels, scores, "f1").false_alarms is None


@pytest.mark.parametrize("labels", [[], [1, 1]])
def test_without_good_images_a_half(labels):
    found = image_threshold(np.array(labels), np.linspace(0.6, 0.8, len(labels)))
    assert found.value == 0.5
    assert "no good images" in found.rule


def test_the_pixel_threshold_has_the_largest_dice():
    rng = np.random.default_rng(0)
    masks = (rng.random((4, 16, 16)) < 0.1).astype(np.uint8)
    maps = np.round(np.clip(rng.normal(0.3 + 0.3 * masks, 0.15), 0, 1), 2).astype(np.float32)
    counts = count_pixels(maps, masks)
    found = pixel_threshold(*totals(counts), counts.levels)
    dice = {level: f1_score(masks.ravel(), maps.ravel() >= level) for level in np.unique(maps)}
    assert dice[np.float32(found.value)] == pytest.approx(max(dice.values()))
    assert found.rule == "max Dice on validation"


def test_pixel_fallbacks_are_stated():
    maps = np.linspace(0, 1, 1000, dtype=np.float32).reshape(1, 20, 50)
    counts = count_pixels(maps, np.zeros((1, 20, 50), np.uint8))
    found = pixel_threshold(*totals(counts), counts.levels)
    assert (maps >= found.value).mean() == pytest.approx(0.005)
    assert "0.995 quantile" in found.rule
    assert pixel_threshold(np.zeros(0), np.zeros(0), np.zeros(0)).value == 0.5
    flat = count_pixels(np.full((1, 4, 4), 0.1, np.float32), np.zeros((1, 4, 4), np.uint8))
    assert pixel_threshold(*totals(flat), flat.levels).value > 0.1
