"""The probe's scores by hand and against scikit-learn; what it may look at and what not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from ssl_defect.data.store import Store, open_store
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import spread
from ssl_defect.pretrain.probe import STRENGTH, TEMPERATURE, Probe, Seen, linear_scores, neighbour_scores


def test_the_score_of_one_query_by_hand() -> None:
    bank = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # its mean is 0
    scores = neighbour_scores(bank, torch.tensor([1, 0, 0, 1]), torch.tensor([[2.0, 1.0]]), 2)
    near, far = np.exp(2 / 5**0.5 / TEMPERATURE), np.exp(1 / 5**0.5 / TEMPERATURE)
    assert float(scores) == pytest.approx(near / (near + far), rel=1e-5)


def test_scores_follow_scikit_learn_s_neighbours() -> None:
    rng = np.random.default_rng(0)
    bank, queries, labels = rng.normal(size=(80, 6)), rng.normal(size=(20, 6)), rng.integers(0, 2, 80)
    centre = bank.mean(axis=0)
    distance, index = NearestNeighbors(n_neighbors=7, metric="cosine").fit(bank - centre).kneighbors(queries - centre)
    weight = np.exp((1 - distance) / TEMPERATURE)
    expected = (weight * labels[index]).sum(axis=1) / weight.sum(axis=1)
    got = neighbour_scores(torch.tensor(bank), torch.tensor(labels), torch.tensor(queries), 7)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_a_bank_of_good_images_scores_by_distance() -> None:
    bank = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
    scores = neighbour_scores(bank, torch.zeros(4, dtype=torch.long), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 2)
    assert float(scores[0]) < float(scores[1])


def test_excluded_pairs_do_not_count() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0], [-0.9, -0.1]])
    labels, query = torch.tensor([1, 0, 0, 1]), torch.tensor([[1.0, 0.0]])
    assert float(neighbour_scores(bank, labels, query, 1)) == 1
    assert float(neighbour_scores(bank, labels, query, 1, torch.tensor([[True, False, False, False]]))) == 0


def test_the_linear_probe_follows_its_formula() -> None:
    """The penalised, class-balanced likelihood in the parameters, minimised by another optimiser."""
    rng = np.random.default_rng(0)
    labels = (np.arange(60) % 3 == 0).astype(np.int64)
    bank, queries = rng.normal(size=(60, 4)) * [1, 5, 0.1, 2] + labels[:, None], rng.normal(size=(15, 4))
    x, signs = (bank - bank.mean(axis=0)) / bank.std(axis=0), np.where(labels == 1, 1, -1)
    weight = len(labels) / (2 * np.bincount(labels))[labels]

    def penalised(p: np.ndarray) -> float:
        return float((weight * np.logaddexp(0, -signs * (x @ p[:4] + p[4]))).sum() * STRENGTH + p[:4] @ p[:4] / 2)

    plane = minimize(penalised, np.zeros(5), tol=1e-12).x
    expected = (queries - bank.mean(axis=0)) / bank.std(axis=0) @ plane[:4] + plane[4]
    got = linear_scores(torch.tensor(bank), labels, torch.tensor(queries))
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.ptp(expected))


def test_the_linear_probe_finds_a_plane_and_passes_over_dead_features() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 240)
    x = rng.normal(size=(240, 6))
    x[:, 2] += 1.2 * labels  # one direction of six tells, among larger ones
    x[:, 3:] *= 9
    x[:, 5] = 7
    scores = linear_scores(torch.tensor(x[:160]), labels[:160], torch.tensor(x[160:]))
    best = roc_auc_score(labels[160:], x[160:, 2])
    assert roc_auc_score(labels[160:], scores) == pytest.approx(best, abs=0.03)


def with_groups(store: Store, of: Callable[[int], int]) -> Store:
    samples = [type(s)(**{**vars(s), "group": of(row)}) for row, s in enumerate(store.samples)]
    return Store(store.folder, samples, store.images, None)


def test_a_near_copy_in_train_teaches_the_linear_probe_nothing(prepared: Path) -> None:
    """Features that give each picture's group away: learned from copies they would tell everything."""
    store = open_store(prepared)
    train, val = store.rows("train"), store.rows("val")
    twin = {int(row): int(val[number % len(val)]) for number, row in enumerate(train)}
    samples = [
        type(s)(**{**vars(s), "label": store.samples[twin.get(r, r)].label}) for r, s in enumerate(store.samples)
    ]
    labelled = Store(store.folder, samples, store.images, None)
    own = torch.eye(len(val)).repeat(len(train) // len(val), 1)
    seen = Seen(own, torch.eye(len(val)))
    fabric = Fabric(accelerator="cpu", devices=1)
    assert Probe(with_groups(labelled, lambda _: -1), fabric).judge(seen)["linear"] == 1
    assert Probe(with_groups(labelled, lambda row: twin.get(row, row)), fabric).judge(seen)["linear"] is None
    half = Probe(with_groups(labelled, lambda row: twin.get(row, row) if row % 2 else -1), fabric)
    assert half.judge(seen)["linear"] is not None


def test_training_images_of_one_class_give_neighbours_but_no_plane(prepared: Path) -> None:
    store = open_store(prepared)
    samples = [s if s.split != "train" else type(s)(**{**vars(s), "label": 0}) for s in store.samples]
    probe = Probe(Store(store.folder, samples, store.images, None), Fabric(accelerator="cpu", devices=1))
    found = probe.measure(build_encoder("test_resnet", 32))
    assert found["auroc"] is not None
    assert found["linear"] is None
    assert found["rank"] is not None


def measure(store: Store) -> float | None:
    torch.manual_seed(0)
    return Probe(store, Fabric(accelerator="cpu", devices=1)).measure(build_encoder("test_resnet", 32))["auroc"]


def test_it_never_sees_the_test_images(prepared: Path) -> None:
    store = open_store(prepared)
    images, labels = np.array(store.images), [*store.samples]
    for row in store.rows("test"):
        images[row] = 255 - images[row]
        labels[row] = type(labels[row])(**{**vars(labels[row]), "label": 1 - labels[row].label})
    for row in store.rows("val")[:1]:
        assert np.abs(images[row]).sum() > 0
    assert measure(Store(store.folder, labels, images, None)) == measure(store)


def test_without_both_classes_in_validation_there_is_no_probe(prepared: Path) -> None:
    store = open_store(prepared)
    samples = [s if s.split != "val" else type(s)(**{**vars(s), "label": 0}) for s in store.samples]
    assert measure(Store(store.folder, samples, store.images, None)) is None


def test_a_near_copy_in_train_is_no_neighbour(prepared: Path) -> None:
    """Validation images that are also in train, with opposite labels: counted, they would give an AUROC of 0."""
    store = open_store(prepared)
    images, samples = np.array(store.images), [*store.samples]
    for train, val in zip(store.rows("train"), store.rows("val"), strict=False):
        images[train] = images[val]
        changes = {"label": 1 - samples[val].label, "group": samples[val].group}
        samples[train] = type(samples[train])(**{**vars(samples[train]), **changes})
    counted = [s if s.split != "train" else type(s)(**{**vars(s), "group": -1}) for s in samples]

    def score(which: list) -> float:  # type: ignore[type-arg]
        torch.manual_seed(0)
        probe = Probe(Store(store.folder, which, images, None), Fabric(accelerator="cpu", devices=1), k=1)
        value = probe.measure(build_encoder("test_resnet", 32))["auroc"]
        assert value is not None
        return value

    assert score(counted) == 0
    assert score(samples) > 0.2


def test_probing_leaves_the_encoder_as_it_was(prepared: Path) -> None:
    encoder = build_encoder("test_resnet", 32).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    Probe(open_store(prepared), Fabric(accelerator="cpu", devices=1)).measure(encoder)
    assert encoder.training
    assert encoder.body.layer1.training
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


def test_spread_is_0_for_one_point_and_1_for_the_whole_sphere() -> None:
    torch.manual_seed(0)
    assert float(spread(torch.ones(50, 16) * torch.rand(50, 1))) == pytest.approx(0, abs=1e-6)
    assert float(spread(torch.randn(20000, 16))) == pytest.approx(1, abs=0.01)
