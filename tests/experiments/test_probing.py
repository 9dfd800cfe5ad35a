"""The probes of the experiments: labels of near-copies never count, nothing is fitted on test images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from probing import knn_auroc, linear_auroc

RNG = np.random.default_rng(0)
LABELS = np.arange(120) % 2
GROUPS = np.arange(120)
FIT, TEST = np.arange(80), np.arange(80, 120)
NOISE = RNG.normal(size=(120, 6)).astype(np.float32)


def told(strength: float) -> np.ndarray:
    """Features of which one tells the label."""
    found = NOISE.copy()
    found[:, 0] += strength * LABELS
    return found


@pytest.mark.parametrize("probe", [knn_auroc, linear_auroc])
def test_what_tells_the_label_is_found_and_noise_is_not(probe: Callable[..., float]) -> None:
    assert probe(told(8.0), LABELS, GROUPS, FIT, TEST) > 0.98
    assert 0.3 < probe(told(0.0), LABELS, GROUPS, FIT, TEST) < 0.7


def test_a_near_copy_does_not_vote() -> None:
    """Test images that also lie in the fit rows under the other label: only as copies are they left out."""
    found, labels, groups = told(0.0), LABELS.copy(), GROUPS.copy()
    found[:40], labels[:40] = found[80:], 1 - labels[80:]
    assert knn_auroc(found, labels, groups, FIT, TEST, k=1) == 0
    groups[:40] = groups[80:]
    assert knn_auroc(found, labels, groups, FIT, TEST, k=1) > 0.2


@pytest.mark.parametrize("probe", [knn_auroc, linear_auroc])
def test_the_labels_of_test_images_are_used_for_nothing_but_the_probe(probe: Callable[..., float]) -> None:
    turned = LABELS.copy()
    turned[TEST] = 1 - turned[TEST]
    one, other = (probe(told(1.0), labels, GROUPS, FIT, TEST) for labels in (LABELS, turned))
    assert one == pytest.approx(1 - other, abs=1e-9)


def test_the_scale_of_a_feature_means_nothing_to_the_linear_probe() -> None:
    scaled = told(1.0) * np.array([1e-3, 1, 1e3, 1, 5, 1], np.float32) + 7
    assert linear_auroc(scaled, LABELS, GROUPS, FIT, TEST) == pytest.approx(
        linear_auroc(told(1.0), LABELS, GROUPS, FIT, TEST), abs=0.01
    )


def test_few_groups_and_dead_features_are_no_obstacle() -> None:
    found = told(8.0)
    found[:, 3] = 1.0
    assert linear_auroc(found, LABELS, LABELS, FIT, TEST) > 0.98
