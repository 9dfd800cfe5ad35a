"""Snapshots: which epochs, which pictures, maps that can be followed, and the same ones after a run was killed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from scipy.linalg import orthogonal_procrustes
from striped_parts import write_prepared

from ssl_defect.data.store import open_store
from ssl_defect.pretrain.probe import Probe, Seen
from ssl_defect.pretrain.snapshots import FEWEST, MOST, SNAPSHOTS, Snapshots, aligned, chosen_epochs, lay_flat


@given(st.integers(0, 24), st.integers(1, 300))
def test_epochs_are_spread_from_the_first_to_the_last(count: int, epochs: int) -> None:
    chosen = chosen_epochs(count, epochs)
    assert len(chosen) <= count
    assert list(chosen) == sorted(set(chosen))
    if count:
        assert chosen[-1] == epochs
    if count > 1:
        assert chosen[0] == 0
        gaps = [b - a for a, b in itertools.pairwise(chosen)]
        assert max(gaps) - min(gaps) <= 2
    if 1 < count <= epochs:
        assert len(chosen) == count


def test_epochs_by_hand() -> None:
    assert chosen_epochs(0, 9) == ()
    assert chosen_epochs(1, 9) == (9,)
    assert chosen_epochs(2, 9) == (0, 9)
    assert chosen_epochs(6, 100) == (0, 20, 40, 60, 80, 100)
    assert chosen_epochs(6, 2) == (0, 1, 2)


@given(st.integers(0, 10_000), st.floats(0, 6.3), st.booleans())
def test_alignment_undoes_shift_turn_and_mirror(seed: int, angle: float, mirrored: bool) -> None:
    points = np.random.default_rng(seed).normal(size=(20, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = points @ turn @ np.diag([1, -1 if mirrored else 1]) + [3, -8]
    np.testing.assert_allclose(aligned(moved, points), points - points.mean(axis=0), atol=1e-9)


def test_alignment_is_scipy_s_and_never_stretches() -> None:
    rng = np.random.default_rng(0)
    points, reference = rng.normal(size=(2, 30, 2))
    got = aligned(points, reference)
    one, other = points - points.mean(axis=0), reference - reference.mean(axis=0)
    np.testing.assert_allclose(got, one @ orthogonal_procrustes(one, other)[0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), np.linalg.norm(one, axis=1), atol=1e-12)


def two_clouds(count: int = 60, width: int = 20) -> np.ndarray:
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(count, width))
    cloud[::2, 0] += 12
    return cloud.astype(np.float32)


def test_maps_tell_clouds_apart_and_stay_where_they_were() -> None:
    features = two_clouds()
    rng = np.random.default_rng(1)
    turned = features @ np.linalg.qr(rng.normal(size=(20, 20)))[0].astype(np.float32) + 5
    for places in lay_flat([features, turned, turned], 0):
        assert places.shape == (3, 60, 2)
        assert places.dtype == np.float32
        for one in places:
            gap = np.linalg.norm(one[::2].mean(axis=0) - one[1::2].mean(axis=0))
            assert gap > 2 * max(one[::2].std(), one[1::2].std())
        near = [np.linalg.norm(b - a, axis=1).mean() for a, b in itertools.pairwise(places)]
        mixed = np.linalg.norm(places[1] - rng.permutation(places[0]), axis=1).mean()
        assert max(near) < 0.2 * mixed


def test_pca_is_the_one_of_the_covariance() -> None:
    features = two_clouds()
    centred = features - features.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    expected = centred @ vectors[:, ::-1][:, :2]
    got = lay_flat([features], 0)[0][0]
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-3)
    assert values[-1] == pytest.approx((got[:, 0] ** 2).sum(), rel=1e-4)


def test_features_that_are_all_alike_have_no_map_and_break_none() -> None:
    flat = np.ones((20, 8), np.float32)
    plane, near = lay_flat([two_clouds(20, 8), flat, two_clouds(20, 8)], 0)
    assert np.isnan(near[1]).all()
    assert np.isfinite(near[[0, 2]]).all()
    assert not plane[1].any()


def a_probe(prepared: Path) -> Probe:
    return Probe(open_store(prepared), Fabric(accelerator="cpu", devices=1))


def test_pictures_are_of_validation_and_the_file_says_which(prepared: Path, tmp_path: Path) -> None:
    probe = a_probe(prepared)
    snapshots = Snapshots(tmp_path, probe, 3, 10)
    assert snapshots.epochs == (0, 5, 10)
    np.testing.assert_array_equal(snapshots.rows, probe.store.rows("val"))
    for epoch in snapshots.epochs:
        generator = torch.Generator().manual_seed(epoch)
        snapshots.keep(epoch, Seen(torch.zeros(72, 6), torch.randn(12, 6, generator=generator)))
    snapshots.finish(0)
    assert [path.name for path in tmp_path.iterdir()] == [SNAPSHOTS]
    with np.load(tmp_path / SNAPSHOTS) as arrays:
        assert arrays["epochs"].tolist() == [0, 5, 10]
        np.testing.assert_array_equal(arrays["rows"], snapshots.rows)
        assert arrays["pca"].shape == arrays["tsne"].shape == (3, 12, 2)


def test_few_validation_pictures_give_way_to_training_ones(tmp_path: Path) -> None:
    probe = a_probe(write_prepared(tmp_path / "prepare", 36))
    assert len(probe.queries) < FEWEST
    snapshots = Snapshots(tmp_path, probe, 2, 4)
    np.testing.assert_array_equal(snapshots.rows, probe.store.rows("train"))
    assert Snapshots(tmp_path, a_probe(write_prepared(tmp_path / "few", 9)), 2, 4).epochs == ()


def test_no_more_than_a_few_hundred_pictures_are_taken(prepared: Path, tmp_path: Path) -> None:
    probe = a_probe(prepared)
    probe.queries = np.arange(3, 1003)
    rows = Snapshots(tmp_path, probe, 2, 4).rows
    assert len(rows) == MOST
    assert (rows[0], rows[-1]) == (3, 1002)


def test_none_are_taken_where_none_are_wanted(prepared: Path, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, a_probe(prepared), 0, 4)
    snapshots.finish(0)
    assert snapshots.epochs == ()
    assert list(tmp_path.iterdir()) == []
