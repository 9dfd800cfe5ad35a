"""Scores from distances: the quantile of good images, and probabilities by known defects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fitting import encoder, fitted
from sklearn.linear_model import LogisticRegression

from ssl_defect.anomaly.calibration import Found, set_probability, set_scales
from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.base import AnomalyHead


def head() -> AnomalyHead:
    return fitted("gaussian", encoder())


def scores(of: AnomalyHead, distances: np.ndarray) -> np.ndarray:
    return of.predict({"distance": torch.from_numpy(distances).float()})["score"].numpy()


def test_the_quantile_becomes_a_half() -> None:
    found, images = head(), np.linspace(1, 3, 101)
    set_scales(found, Found(images, np.array([2.0, 4.0, 8.0])), 0.9)
    assert float(found.image_scale) == pytest.approx(2.8)
    assert float(found.pixel_scale) == 4.0
    assert scores(found, np.array([2.8]))[0] == pytest.approx(0.5, abs=1e-6)


def test_probabilities_are_a_logistic_regression_on_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    distances = np.exp(np.concatenate([rng.normal(0, 0.3, 4000), rng.normal(0.5, 0.3, 1000)]))
    labels = np.repeat([0, 1], [4000, 1000])
    found = head()
    set_probability(found, distances, labels)
    peer = LogisticRegression(C=1e9).fit(np.log(distances)[:, None], labels)
    wanted = peer.predict_proba(np.log(distances)[:, None])[:, 1]
    assert np.abs(scores(found, distances) - wanted).max() < 0.01  # Platt's targets differ a little from 0 and 1
    assert scores(found, distances).mean() == pytest.approx(0.2, abs=0.002)


def test_few_defects_do_not_make_it_certain() -> None:
    found, distances = head(), np.array([1.0, 1.1, 1.2, 5.0, 6.0])
    set_probability(found, distances, np.array([0, 0, 0, 1, 1]))
    assert 0.6 < scores(found, np.array([5.5]))[0] < 0.9  # two of two: Platt's 3 / 4
    assert np.isfinite(scores(found, np.array([0.0, 1e30]))).all()


def test_two_of_each_are_needed_and_defects_must_be_farther() -> None:
    with pytest.raises(UserError, match="needs 2 good and 2 defective validation images, there are 3 and 1"):
        set_probability(head(), np.arange(1.0, 5.0), np.array([0, 0, 0, 1]))
    with pytest.raises(UserError, match="no farther"):
        set_probability(head(), np.array([5.0, 6, 7, 1, 2, 3]), np.array([0, 0, 0, 1, 1, 1]))
