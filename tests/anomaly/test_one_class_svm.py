"""The one-class SVM in torch against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fitting import COUNT, encoder, fitted, options_of, parts
from sklearn.svm import OneClassSVM as Reference

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.one_class_svm import OneClassSVM


@pytest.mark.parametrize(("nu", "gamma"), [(0.1, None), (0.5, 0.002), (0.9, 0.02), (0.01, 0.02)])
def test_it_decides_as_scikit_learn(nu: float, gamma: float | None) -> None:
    body = encoder()
    head = fitted("one_class_svm", body, nu=nu, gamma=gamma)
    assert isinstance(head, OneClassSVM)
    used = gamma or 1 / body.width
    with torch.no_grad():
        near, far = (head.scaling(body(x)) for x in (parts(5, 3), parts(5, 4, spot=True)))
        good = head.scaling(torch.cat([body(x) for x in parts().split(7)]))  # as in `fitted`, to the last bit
        assert good.std(dim=0, correction=0).median() == pytest.approx(1, abs=1e-3)
        decisions = [head.decision(query).numpy() for query in (near, far)]
        distances = [head(body, x)["distance"].double().numpy() for x in (parts(5, 3), parts(5, 4, spot=True))]
    reference = Reference(nu=nu, gamma=used).fit(good.numpy())
    for query, decision in zip((near, far), decisions, strict=True):
        assert decision == pytest.approx(reference.decision_function(query.double().numpy()), abs=1e-5)
    assert int((head.weights > 0).sum()) == len(reference.support_)
    # the distance is the falling function of the decision that the docstring names
    share = (reference.decision_function(near.double().numpy()) + reference.offset_[0]) / reference.dual_coef_.sum()
    assert distances[0] == pytest.approx(np.sqrt(-np.log(share) / used), rel=1e-3)
    assert np.array_equal(np.argsort(distances[0]), np.argsort(-decisions[0]))
    assert distances[1].min() > distances[0].max()


def test_of_one_support_vector_the_distance_is_euclidean_and_far_away_it_still_rises() -> None:
    body = encoder()
    head = OneClassSVM(body, options_of("one_class_svm") | {"memory": 3}).eval()
    head.weights[1], head.support[1] = 0.7, torch.randn(body.width, generator=torch.Generator().manual_seed(0))
    direction = torch.zeros(body.width)
    direction[0] = 1
    lengths = torch.tensor([0.0, 0.5, 3.0, 1e3, 1e6])
    found = (
        (head.weights.sum().log() - head.log_sum(head.support[1] + lengths[:, None] * direction)) / head.gamma
    ).sqrt()
    assert found.numpy() == pytest.approx(lengths.numpy(), rel=1e-3, abs=1e-3)


def test_there_is_room_for_every_picture_and_one_is_too_few() -> None:
    body, options = encoder(), options_of("one_class_svm")
    assert OneClassSVM.measured(body, options, COUNT) == {"memory": COUNT}
    with pytest.raises(UserError, match="one_class_svm needs 2 good training images or more, got 1"):
        OneClassSVM.measured(body, options, 1)


def test_nan_is_refused_in_fitting_and_seen_in_scores() -> None:
    body = encoder()
    head = fitted("one_class_svm", body)
    x = parts(2)
    x[0, 0, 0, 0] = torch.nan
    with torch.no_grad():
        found = head.predict(head(body, x))["score"]
        assert torch.isnan(found).tolist() == [True, False]
        next(body.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        fitted("one_class_svm", body)
