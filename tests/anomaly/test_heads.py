"""Distances of every detector against a reference, and what all detectors of anomalies promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fitting import SIZE, encoder, fitted, parts
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.nets.anomaly.base import enlarged, squashed
from ssl_defect.nets.anomaly.patchcore import PatchCore
from ssl_defect.nets.anomaly.patches import levels_of, patch_features, patch_side, patch_width


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("name", DETECTORS)
def test_a_spot_scores_higher_than_good_parts_and_the_map_shows_where(name: str, backbone: str) -> None:
    body = encoder(backbone)
    head = fitted(name, body)
    with torch.no_grad():
        good, bad = (head.predict(head(body, parts(8, 1, spot))) for spot in (False, True))
    # random ViTs of four patches, and pooled directions, see little; white noise does not teach SimpleNet brightness
    blind = backbone != "test_resnet" or name == "simplenet"
    if not blind and name != "knn":
        assert bad["score"].min() > good["score"].max()
    for found in (good, bad):
        assert all(value.min() >= 0 and value.max() <= 1 and torch.isfinite(value).all() for value in found.values())
    if "map" in bad:
        assert bad["map"].shape == (8, SIZE, SIZE)
    if "map" in bad and not blind:
        inside = bad["map"][:, 20:26, 8:14].mean()
        outside = bad["map"][:, :10, 20:].mean()
        assert inside > outside


@pytest.mark.parametrize("name", DETECTORS)
def test_scores_do_not_depend_on_the_batch(name: str) -> None:
    body = encoder()
    head = fitted(name, body)
    x = parts(6, 2, spot=True)
    with torch.no_grad():
        whole = head.predict(head(body, x))
        single = [head.predict(head(body, x[i : i + 1])) for i in range(6)]
    for key, value in whole.items():
        assert torch.allclose(value, torch.cat([one[key] for one in single]), atol=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_what_was_learnt_is_in_the_state(name: str) -> None:
    body = encoder()
    head = fitted(name, body)
    again = type(head)(body, head.options).eval()
    again.load_state_dict(head.state_dict())
    with torch.no_grad():
        x = parts(3, 5)
        assert torch.equal(again(body, x)["distance"], head(body, x)["distance"])


def test_patchcore_weighs_the_score_as_equation_7() -> None:
    body = encoder()
    head = fitted("patchcore", body, neighbours=3)
    assert isinstance(head, PatchCore)
    with torch.no_grad():
        x = parts(2, 9, spot=True)
        patches = patch_features(body, x, head.levels).flatten(2).transpose(1, 2)
        found = head(body, x)
    for i in range(2):
        distances = torch.cdist(patches[i], head.bank)
        worst = int(distances.min(dim=1).values.argmax())
        star = int(distances[worst].argmin())
        around = torch.cdist(head.bank[star : star + 1], head.bank)[0].topk(3, largest=False).indices
        s = distances[worst, star]
        weight = 1 - torch.exp(s) / torch.exp(distances[worst, around]).sum()
        assert found["distance"][i].item() == pytest.approx((weight * s).item(), rel=1e-4)
        assert found["distances"][i].max().item() == pytest.approx(s.item(), rel=1e-4)


def test_padim_is_a_mahalanobis_distance_in_each_place() -> None:
    body = encoder()
    head = fitted("padim", body)
    with torch.no_grad():
        good = patch_features(body, parts(), head.levels)[:, head.kept].double().numpy()
        x = parts(2, 4, spot=True)
        query = patch_features(body, x, head.levels)[:, head.kept].double().numpy()
        found = head(body, x)["distances"].numpy()
    for row, column in ((0, 0), (3, 2), (7, 7)):
        values = good[:, :, row, column]
        inverse = np.linalg.inv(np.cov(values.T) + 0.01 * np.eye(values.shape[1]))
        offset = query[:, :, row, column] - values.mean(axis=0)
        expected = np.sqrt(np.einsum("bi,ij,bj->b", offset, inverse, offset))
        assert found[:, row, column] == pytest.approx(expected, rel=1e-3)


def test_gaussian_and_neighbours_against_scikit_learn() -> None:
    body = encoder()
    x = parts(5, 3, spot=True)
    gaussian, knn = fitted("gaussian", body), fitted("knn", body, neighbours=4)
    with torch.no_grad():
        good, query = body(parts()).double().numpy(), body(x).double().numpy()
        distances, near = gaussian(body, x)["distance"], knn(body, x)["distance"]
    expected = np.sqrt(LedoitWolf().fit(good).mahalanobis(query))
    assert distances.numpy() == pytest.approx(expected, rel=1e-3)
    unit = [(f - good.mean(0)) / np.linalg.norm(f - good.mean(0), axis=1, keepdims=True) for f in (good, query)]
    expected = NearestNeighbors(n_neighbors=4).fit(unit[0]).kneighbors(unit[1])[0].mean(axis=1)
    assert near.numpy() == pytest.approx(expected, rel=1e-3)


def test_maps_are_right_at_the_border_and_for_a_single_cell() -> None:
    flat = enlarged(torch.full((1, 8, 8), 2.5), 64)
    assert torch.allclose(flat, torch.full((1, 64, 64), 2.5), atol=1e-5)  # a border is no darker than the middle
    for row, column in ((0, 0), (3, 4), (7, 7)):
        one = torch.zeros(1, 8, 8)
        one[0, row, column] = 1.0
        place = divmod(int(enlarged(one, 64)[0].argmax()), 64)
        assert (place[0] // 8, place[1] // 8) == (row, column)


def test_squashing_keeps_the_order_and_the_scale_is_one_half() -> None:
    distances = torch.tensor([0.0, 0.1, 1.0, 2.0, 40.0])
    found = squashed(distances, torch.tensor(2.0))
    assert found[3] == 0.5
    assert (found.diff() > 0).all()
    assert found[0] == 0
    assert squashed(torch.tensor([1e30]), torch.tensor(1e-6)) == 1


def test_levels_by_stride_and_of_a_plain_vit() -> None:
    body = encoder()
    levels = levels_of(body, (4, 8))
    assert [body.reductions[level] for level in levels] == [4, 8]
    assert patch_width(body, levels) == patch_features(body, parts(1), levels).shape[1]
    assert patch_side(body, levels) == patch_features(body, parts(1), levels).shape[2] == 8
    assert levels_of(encoder("test_vit"), (4, 8)) == [1, 2]
    with pytest.raises(UserError, match="no map of stride 3; accepted: "):
        levels_of(body, (3,))
