"""Snapshots of the embedding over the epochs: the same pictures laid flat again and again, so that the eye can follow.

The features of each snapshot are kept in a file of their own until the run ends, so that a run that was killed
comes to the same maps as one that was not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ssl_defect.artifacts import atomic
from ssl_defect.pretrain.probe import Probe, Seen
from ssl_defect.train.batches import Rows

SNAPSHOTS = "snapshots.npz"
MOST, FEWEST = 300, 10  # pictures; below ten a map says nothing
REDUCED = 50  # principal components that t-SNE starts from
STEPS, CALM_STEPS = 500, 300  # of t-SNE from scratch, and from the map before
START = 1e-4  # standard deviation of t-SNE's first places: van der Maaten and Hinton 2008, section 3.4

Points = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]


class Snapshots:
    """Takes a snapshot after chosen epochs and draws all of them at the end.

    Attributes:
        epochs: the chosen epochs, ascending; 0 is before training.
        rows: the pictures, as rows of the store: of validation, or of training where that holds too few.
    """

    def __init__(self, out: Path, probe: Probe, count: int, epochs: int) -> None:
        self.out = out
        self._of_validation = len(probe.queries) >= FEWEST
        available = probe.queries if self._of_validation else probe.bank
        self._places = np.unique(np.linspace(0, max(len(available) - 1, 0), MOST).astype(np.int64))[: len(available)]
        self.rows: Rows = available[self._places]
        self.epochs = chosen_epochs(count, epochs) if len(self.rows) >= FEWEST else ()

    def keep(self, epoch: int, seen: Seen) -> None:
        """Write the features of one snapshot."""
        features = (seen.queries if self._of_validation else seen.bank).numpy()[self._places]
        with atomic(self._file(epoch)) as temporary, temporary.open("wb") as file:
            np.save(file, features)

    def finish(self, seed: int) -> None:
        """Write `snapshots.npz` from the snapshots kept, and remove them.

        "rows" (n,), "epochs" (k,), and "pca" and "tsne" float32 (k, n, 2), each map turned to lie on the one before;
        t-SNE is NaN where all features are alike.
        """
        epochs = [epoch for epoch in self.epochs if self._file(epoch).exists()]
        if epochs:
            features = [np.load(self._file(epoch)) for epoch in epochs]
            maps: dict[str, Any] = dict(zip(("pca", "tsne"), lay_flat(features, seed), strict=True))
            with atomic(self.out / SNAPSHOTS) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, rows=self.rows, epochs=np.array(epochs), **maps)
        for path in self.out.glob("snapshot-*.npy"):
            path.unlink()

    def _file(self, epoch: int) -> Path:
        return self.out / f"snapshot-{epoch:04d}.npy"


def chosen_epochs(count: int, epochs: int) -> tuple[int, ...]:
    """At most `count` epochs from 0 (before training) to `epochs`, evenly spread; the last first where it is one."""
    if count <= 1:
        return (epochs,) * count
    return tuple(dict.fromkeys(round(epochs * number / (count - 1)) for number in range(count)))


def lay_flat(snapshots: list[Floats], seed: int) -> tuple[Floats, Floats]:
    """Coordinates (k, n, 2) by PCA and by t-SNE of k snapshots of the features (n, D) of the same n pictures.

    Each map is shifted and turned (never stretched) to lie on the one before. t-SNE of a snapshot starts from the map
    before it, the first one from PCA.
    """
    plane: list[Points] = []
    near: list[Points] = []
    for features in snapshots:
        reduced = _reduce(features)
        plane.append(aligned(reduced[:, :2], plane[-1] if plane else None))
        before = near[-1] if near and not np.isnan(near[-1]).any() else None
        near.append(aligned(_tsne(reduced, before if before is not None else plane[-1], before is None, seed), before))
    return np.stack(plane).astype(np.float32), np.stack(near).astype(np.float32)


def aligned(points: Points, reference: Points | None) -> Points:
    """Points (n, 2) shifted to their centre, turned and mirrored to lie as close as can be to `reference` (n, 2).

    The orthogonal Procrustes problem (Schonemann 1966); distances between points stay as they are.
    """
    centred: Points = points - points.mean(axis=0)
    if reference is None or np.isnan(centred).any():
        return centred
    left, _, right = np.linalg.svd(centred.T @ (reference - reference.mean(axis=0)))
    turned: Points = centred @ (left @ right)
    return turned


def _reduce(features: Floats) -> Points:
    whole = np.asarray(features, np.float64)
    if np.ptp(whole, axis=0).max() == 0:
        return np.zeros((len(whole), 2))
    reduced: Points = PCA(min(REDUCED, *whole.shape), svd_solver="full").fit_transform(whole)
    padded: Points = np.pad(reduced, ((0, 0), (0, max(0, 2 - reduced.shape[1]))))
    return padded


def _tsne(reduced: Points, start: Points, afresh: bool, seed: int) -> Points:
    deviation = start[:, 0].std()
    if np.allclose(reduced, reduced[:1]) or deviation == 0:
        return np.full((len(reduced), 2), np.nan)
    model = TSNE(
        2,
        perplexity=min(30.0, (len(reduced) - 1) / 3),
        init=(start * (START / deviation if afresh else 1)).astype(np.float32),
        early_exaggeration=12.0 if afresh else 1.0,
        max_iter=STEPS if afresh else CALM_STEPS,
        random_state=seed,
    )
    with threadpool_limits(1):  # sums over threads would depend on their number
        found: Points = model.fit_transform(reduced.astype(np.float32)).astype(np.float64)
    return found
