"""The isolation forest in torch against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fitting import COUNT, encoder, fitted, options_of, parts
from sklearn.ensemble import IsolationForest as Reference

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.isolation_forest import IsolationForest, nodes_of, path_length


@pytest.mark.parametrize(("trees", "samples"), [(100, 256), (7, 16), (20, 2), (5, 11)])
def test_it_scores_as_scikit_learn(trees: int, samples: int) -> None:
    body = encoder()
    head = fitted("isolation_forest", body, trees=trees, samples=samples)
    x = torch.cat([parts(6, 3), parts(6, 4, spot=True), parts()])
    with torch.no_grad():
        good, query = body(parts()).numpy(), body(x).numpy()
        found = head(body, x)["distance"].numpy()
    reference = Reference(n_estimators=trees, max_samples=min(samples, COUNT), random_state=0).fit(good)
    assert found == pytest.approx(-reference.score_samples(query), abs=1e-5)


def test_many_points_with_ties_score_as_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    good = rng.integers(0, 5, size=(400, 6)).astype(np.float32)  # equal points end in leaves of several
    query = np.concatenate([rng.integers(-2, 8, size=(300, 6)), good[:50]]).astype(np.float32)
    body = encoder()
    head = IsolationForest(body, options_of("isolation_forest", trees=30) | {"drawn": 256})
    forest = Reference(n_estimators=30, max_samples=256, random_state=3).fit(good)
    for number, tree in enumerate(forest.estimators_):
        for name, values in nodes_of(tree.tree_).items():
            getattr(head, name)[number, : len(values)] = torch.from_numpy(values)
    found = head.isolation(torch.from_numpy(query)).numpy()
    assert found == pytest.approx(-forest.score_samples(query), abs=1e-5)
    assert found.min() > 0
    assert found.max() <= 1


def test_thresholds_are_rounded_so_that_the_same_features_pass() -> None:
    forest = Reference(n_estimators=20, random_state=0).fit(np.random.default_rng(0).normal(size=(200, 4)))
    for tree in forest.estimators_:
        original = tree.tree_.threshold
        rounded = nodes_of(tree.tree_)["threshold"]
        assert (rounded <= original).all()
        assert (np.nextafter(rounded, np.float32(np.inf)) > original).all()


def test_mean_length_of_a_search() -> None:
    harmonic = np.log(255.0) + 0.5772156649015329
    assert path_length(np.array([1, 2, 256])) == pytest.approx([0, 1, 2 * harmonic - 2 * 255 / 256])


def test_trees_are_grown_on_what_there_is_and_one_picture_is_too_few() -> None:
    body, options = encoder(), options_of("isolation_forest", samples=20)
    assert IsolationForest.measured(body, options, 500) == {"drawn": 20}
    assert IsolationForest.measured(body, options, 7) == {"drawn": 7}
    assert IsolationForest(body, options | {"drawn": 7}).threshold.shape == (60, 13)
    with pytest.raises(UserError, match="isolation_forest needs 2 good training images or more, got 1"):
        IsolationForest.measured(body, options, 1)


def test_nan_is_refused_in_fitting_and_seen_in_scores() -> None:
    body = encoder()
    head = fitted("isolation_forest", body)
    x = parts(2)
    x[0, 0, 0, 0] = torch.nan
    with torch.no_grad():
        assert torch.isnan(head.predict(head(body, x))["score"]).tolist() == [True, False]
        next(body.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        fitted("isolation_forest", body)
