"""Embeddings: deterministic, apart where the features are apart, and quiet on tiny or collapsed sets."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from ssl_defect.evaluate.embed import embed, spread_over, spread_rows


def _two_clouds(count=40, width=12):
    rng = np.random.default_rng(0)
    side = np.arange(count) % 2
    return rng.normal(size=(count, width)).astype(np.float32) + 8 * side[:, None], side


@pytest.mark.slow
def test_projections_follow_the_seed_and_part_what_is_apart():
    features, side = _two_clouds()
    first, again = embed(features, 0), embed(features, 0)
    for name in ("pca", "tsne", "umap"):
        assert first[name].shape == (40, 2)
        assert np.array_equal(first[name], again[name])
        distance = np.linalg.norm(first[name][:, None] - first[name][None], axis=2) + 1e9 * np.eye(40)
        assert (side[distance.argmin(1)] == side).all(), name


def test_pca_is_scikit_learns_up_to_sign():
    features, _ = _two_clouds(9)
    found, expected = embed(features, 0)["pca"], PCA(2).fit_transform(features)
    assert np.allclose(np.abs(found), np.abs(expected), atol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_few_images_have_no_tsne_and_no_umap(count):
    features, _ = _two_clouds(count)
    found = embed(features, 0)
    assert np.isfinite(found["pca"]).all()
    assert found["pca"].shape == (count, 2)
    assert np.isnan(found["tsne"]).all()
    assert np.isnan(found["umap"]).all()


def test_collapsed_features_give_no_projection_and_no_warning():
    found = embed(np.full((30, 8), 0.7, np.float32), 0)
    assert (found["pca"] == 0).all()
    assert np.isnan(found["umap"]).all()


@pytest.mark.slow
def test_the_smallest_set_and_one_feature():
    rng = np.random.default_rng(0)
    for features in (rng.normal(size=(10, 4)), rng.normal(size=(12, 1))):
        found = embed(features, 3)
        assert all(np.isfinite(found[name]).all() for name in found)


def test_spread_rows_are_distinct_and_even():
    assert spread_rows(5, 10).tolist() == [0, 1, 2, 3, 4]
    rows = spread_rows(1000, 100)
    assert len(rows) == 100
    assert rows[0] == 0
    assert rows[-1] == 999
    assert np.diff(rows).max() - np.diff(rows).min() <= 1
    assert len(spread_rows(0)) == 0


def test_validation_gets_the_room_that_test_leaves():
    assert spread_over(3, 2).tolist() == [2, 3, 4, 0, 1]
    assert spread_over(4, 10, 6).tolist() == [10, 11, 12, 13, 0, 9]
    assert spread_over(9, 5, 6).tolist() == (5 + spread_rows(9, 6)).tolist()
    assert spread_over(3, 0).tolist() == [0, 1, 2]
