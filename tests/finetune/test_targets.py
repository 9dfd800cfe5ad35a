"""What each target makes of the labels: targets, what is left out or refused, and that it is learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from trying import build, learn, rewrite, usable

from ssl_defect.errors import UserError
from ssl_defect.finetune.classification import mean_label_auroc
from ssl_defect.finetune.stage import finetune
from ssl_defect.nets.heads import to_scale

Make = Callable[..., "Case"]  # noqa: F821 - see conftest


def test_labels_are_split_at_the_plus(make_case: Make) -> None:
    kinds = ("good", "spot", "scratch", "scratch+spot")
    task = build(make_case(kinds=kinds, count=16, options={"target": "labels"}))
    assert task.detector.spec.classes == ["good", "scratch", "spot"]
    store = make_case(kinds=kinds, count=16).store
    expected = {"good": [0, 0], "spot": [0, 1], "scratch": [1, 0], "scratch+spot": [1, 1]}
    targets = task.targets(store, task.views)
    assert targets.tolist() == [expected[defect] for defect in store.defects]
    assert len(np.unique(task.strata(store, task.views))) == 4


def test_learns_several_labels_at_once(make_case: Make, tmp_path: Path) -> None:
    kinds = ("good", "spot", "scratch", "scratch+spot")
    options = {"target": "labels"}
    case = make_case(kinds=kinds, count=160, steps=100, eval_every=25, options=options, learning_rate=1e-2)
    rows, found = learn(case, tmp_path)
    for number, label in enumerate(("scratch", "spot")):
        assert roc_auc_score([label in case.store.defects[row] for row in rows], found["labels"][:, number]) > 0.9
    assert roc_auc_score(case.store.labels[rows], found["score"]) > 0.9


def test_mean_auroc_of_labels_leaves_out_what_nobody_or_everybody_has() -> None:
    rng = np.random.default_rng(0)
    values, truth = rng.random((30, 4)).astype(np.float32), rng.integers(0, 2, (30, 4))
    truth[:, 1], truth[:, 2] = 0, 1
    expected = np.mean([roc_auc_score(truth[:, i], values[:, i]) for i in (0, 3)])
    assert mean_label_auroc(values, truth) == pytest.approx(expected)
    assert mean_label_auroc(values[:, 1:3], truth[:, 1:3]) is None


def test_mixing_learns_from_soft_targets_of_other_images(make_case: Make) -> None:
    case = make_case(options={"target": "defect", "cutmix": 1.0, "dropout": 0.0})
    task = build(case).eval()
    seen = []
    task.detector.forward = lambda images: seen.append(images) or {"logits": torch.zeros(len(images), 3)}
    images = torch.from_numpy(np.array(case.store.images[:6])).permute(0, 3, 1, 2)
    batch = {"image": images, "target": torch.arange(6) % 3}
    loss = task(batch | {"generator": torch.Generator().manual_seed(1)}, 0.0)["loss"]
    assert loss.item() == pytest.approx(np.log(3))  # soft targets sum to 1
    assert seen[0].shape == (6, 1, 32, 32)


@pytest.mark.parametrize("target", ["grade", "area"])
def test_learns_a_value(target: str, make_case: Make, tmp_path: Path) -> None:
    options = {"target": target, "dropout": 0.0, "losses": {"huber": 1.0}}
    case = make_case(task="regression", count=150, steps=100, eval_every=25, options=options, learning_rate=1e-2)
    rows, found = learn(case, tmp_path)
    truth = np.array([getattr(case.store.samples[row], target) for row in rows])
    assert spearmanr(truth, found["value"]).statistic > 0.8
    assert np.abs(truth - found["value"]).mean() < 0.7 * np.abs(truth - np.median(truth)).mean()
    assert roc_auc_score(case.store.labels[rows], found["score"]) > 0.9


def test_targets_of_a_regression(make_case: Make) -> None:
    case = make_case(task="regression", count=12)
    assert build(case).targets(case.store, build(case).views).tolist() == [0.0, 0.5, 1.0] * 4
    areas = np.array([sample.area for sample in case.store.samples], np.float32)
    for scale, expected in (("linear", areas), ("log", to_scale(torch.from_numpy(areas)).numpy())):
        task = build(make_case(task="regression", count=12, options={"target": "area", "scale": scale}))
        np.testing.assert_allclose(task.targets(case.store, task.views), expected)


def test_images_without_a_grade_are_left_out_in_training_and_validation(
    make_case: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    case = make_case(task="regression", count=24)
    rewrite(case, lambda row, sample: replace(sample, grade=None) if row % 2 else sample)
    kept = usable(case)
    assert kept.tolist() == [row for row in case.store.rows("train") if row % 2 == 0]
    assert "finetune: 4 images without a known grade are left out" in capsys.readouterr().err
    task = build(case).eval()
    images = torch.from_numpy(np.array(case.store.images[:6])).permute(0, 3, 1, 2)
    target = torch.from_numpy(task.targets(case.store, task.views)[:6])
    with torch.no_grad():
        some = task.validation([{"image": images, "target": target}])
        known = task.validation(
            [{"image": images[::2], "target": target[::2]}, {"image": images, "target": target * np.nan}]
        )
    assert some.value == pytest.approx(known.value)
    assert some.loss == pytest.approx(known.loss)


def test_validation_of_a_regression_is_its_mean_absolute_error(make_case: Make) -> None:
    task = build(make_case(task="regression", count=12)).eval()
    outputs = torch.tensor([0.2, -0.5, 1.5])
    task.detector.forward = lambda images: {"value": outputs}
    batch = {"image": torch.zeros(3, 1, 32, 32, dtype=torch.uint8), "target": torch.tensor([0.5, 0.0, 1.0])}
    found = task.validation([batch])
    assert found.metric == "-MAE"
    assert found.value == pytest.approx(-0.1)  # clipped, as it will be predicted
    assert found.loss == pytest.approx((0.09 + 0.25 + 0.25) / 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "regression", "grades": False}, r"none of the 45 labelled training images has a known grade.*area"),
        ({"task": "regression", "kinds": ("spot",)}, "nothing to learn"),
        ({"task": "regression", "kinds": ("spot",), "masks": False, "options": {"target": "area"}}, "no.* known area"),
        ({"options": {"target": "labels"}, "kinds": ("spot",)}, "all 'spot'"),
        ({"options": {"target": "defect"}, "kinds": ("good",)}, "all 'good'"),
        ({"task": "segmentation", "options": {"target": "defect"}, "masks": False}, "needs masks"),
        ({"task": "segmentation", "options": {"target": "defect"}, "kinds": ("good",)}, "none of the .* has a mask"),
        ({"task": "segmentation", "options": {"losses": {"cross_entropy": 1}}}, "'cross_entropy' does not fit here"),
        ({"task": "segmentation", "options": {"target": "defect", "losses": {"bce": 1}}}, "'bce' does not fit here"),
        ({"task": "regression", "options": {"losses": {"dice": 1}}}, "'dice' does not fit here"),
        ({"options": {"losses": {"l1": 1}}}, "'l1' does not fit here"),
        ({"options": {"target": "labels", "losses": {"cross_entropy": 1}}}, "'cross_entropy' does not fit here"),
        ({"options": {"losses": {"focl": 1}}}, "did you mean 'focal'"),
        ({"options": {"losses": {"focal": -1}}}, "is no weight"),
        ({"options": {"target": "labels", "class_weights": {"good": 2}}}, "scratch, spot"),
        ({"task": "segmentation", "options": {"decoder": "deeplab"}}, "did you mean 'deeplabv3plus'"),
        ({"options": {"attention": "sé"}}, "'none', 'se' or 'cbam'"),
    ],
)
def test_what_does_not_fit_is_one_line(settings: dict, message: str, make_case: Make, tmp_path: Path) -> None:
    case = make_case(**settings)
    with pytest.raises(UserError, match=message) as error:
        finetune(case.recipe, case.prepared, case.pretrained, tmp_path)
    assert "\n" not in str(error.value)


def test_a_label_or_class_without_training_images_is_said(make_case: Make, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    for settings, message in (
        ({"options": {"target": "labels"}}, "no labelled training image has spot, so"),
        ({"task": "segmentation", "options": {"target": "defect"}}, "no labelled training image has a mask of spot"),
    ):
        case = make_case(count=36, **settings)
        rewrite(case, lambda _, sample: replace(sample, split="test") if sample.defect == "spot" else sample)
        usable(case)
        assert message in capsys.readouterr().err
