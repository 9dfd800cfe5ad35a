"""Features in the plane: PCA, t-SNE and UMAP, each the same for the same seed."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ssl_defect.evaluate.metrics import Array

MOST = 2000
FEWEST = 10
REDUCED = 50
TSNE_STEPS = 500


def spread_rows(count: int, most: int = MOST) -> Array:
    """At most `most` of `count` positions, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)) if count else np.zeros(0, np.int64)


def spread_over(test: int, validation: int, most: int = MOST) -> Array:
    """At most `most` positions of `validation` images and the `test` images behind them: those of test first.

    Validation gets the room that the test images leave; within each the positions are evenly spread.
    """
    later = spread_rows(test, most)
    return np.concatenate([validation + later, spread_rows(validation, most - len(later))])


def embed(features: Array, seed: int) -> dict[str, Array]:
    """Coordinates (n, 2) of features (n, width) by `pca`, `tsne` and `umap`.

    t-SNE (van der Maaten & Hinton, JMLR 2008) and UMAP (McInnes et al., arXiv:1802.03426) start from the first 50
    principal components. Below 10 images, or where all features are alike, they say nothing and give NaN.
    """
    count = len(features)
    reduced = _reduce(np.asarray(features, np.float32))
    found = {"pca": _two(reduced)}
    if count < FEWEST or np.allclose(reduced, reduced[:1]):
        return {**found, "tsne": np.full((count, 2), np.nan), "umap": np.full((count, 2), np.nan)}
    return {**found, "tsne": _tsne(reduced, seed), "umap": _umap(reduced, seed)}


def turned(points: Array, reference: Array) -> Array:
    """Points (n, 2) shifted, turned and mirrored, never stretched, to lie as close as can be to `reference` (n, 2).

    The orthogonal Procrustes problem (Schonemann 1966). As they are where either map says nothing.
    """
    if not len(points) or not (np.isfinite(points).all() and np.isfinite(reference).all()):
        return points
    centre = reference.mean(axis=0)
    centred = points - points.mean(axis=0)
    left, _, right = np.linalg.svd(centred.T @ (reference - centre))
    found: Array = centred @ (left @ right) + centre
    return found


def _reduce(features: Array) -> Array:
    size = min(REDUCED, *features.shape)
    if len(features) < 2 or np.ptp(features, axis=0).max() == 0:
        return np.zeros((len(features), 2), np.float32)
    reduced: Array = PCA(size, svd_solver="full").fit_transform(features)
    return reduced


def _two(reduced: Array) -> Array:
    return np.pad(reduced, ((0, 0), (0, max(0, 2 - reduced.shape[1]))))[:, :2]


def _tsne(reduced: Array, seed: int) -> Array:
    perplexity = min(30.0, (len(reduced) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init=_start(reduced), max_iter=TSNE_STEPS, random_state=seed)
    with threadpool_limits(1):  # sums over threads would depend on their number
        coordinates: Array = model.fit_transform(reduced)
    return coordinates


def _umap(reduced: Array, seed: int) -> Array:
    size = min(15, len(reduced) - 1)
    # found here, exactly: umap would compile a search of its own, which takes longer than all the rest
    distances, indices = NearestNeighbors(n_neighbors=size).fit(reduced).kneighbors(reduced)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        warnings.filterwarnings("ignore", "precomputed_knn.2. .knn_search_index. is not", UserWarning)
        import umap

        model = umap.UMAP(
            n_components=2,
            n_neighbors=size,
            precomputed_knn=(indices, distances.astype(np.float32)),
            init=_start(reduced),
            random_state=seed,
            n_jobs=1,
        )
        coordinates: Array = model.fit_transform(reduced)
    return coordinates


def _start(reduced: Array) -> str:
    return "pca" if reduced.shape[1] > 1 else "random"  # UMAP's own, "spectral", fails where a set falls into parts
