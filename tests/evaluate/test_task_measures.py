"""Metrics of single tasks against scikit-learn and scipy, as they are and under draws of the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    jaccard_score,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.evaluate import TASK_METRICS, class_map_metrics, class_metrics, label_metrics, regression_metrics
from ssl_defect.evaluate.bootstrap import Resampling
from ssl_defect.evaluate.task_metrics import task_metrics
from ssl_defect.nets.detector import Spec

N, VAL = 40, 6


@dataclass
class Fake:
    """What `measure` reads of `Results`; the first `VAL` rows are validation images."""

    store: Store
    others: dict[str, np.ndarray]
    draws: int = 100

    split = VAL

    @property
    def found(self) -> Any:
        return SimpleNamespace(
            others=self.others, maps=self.others.get("map"), probabilities=self.others.get("probabilities")
        )

    @property
    def pixel(self) -> Any:
        return SimpleNamespace(value=0.25)

    @property
    def test(self) -> np.ndarray:
        return np.arange(VAL, N)

    @property
    def groups(self) -> np.ndarray:
        return self.store.groups[self.test]

    @property
    def defects(self) -> list[str]:
        return [self.store.defects[row] for row in self.test]

    @property
    def masked(self) -> np.ndarray:
        return (self.store.labels == 0) | (self.store.masks.reshape(N, -1).any(axis=1))

    @property
    def spec(self) -> Resampling:
        return Resampling(draws=self.draws)


def make(kinds: list[str], masks: np.ndarray | None = None, **others: np.ndarray) -> Fake:
    rng = np.random.default_rng(0)
    samples = [
        Sample(f"{i}", label=int(kinds[i % len(kinds)] != "good"), defect=kinds[i % len(kinds)], group=i // 2)
        for i in range(N)
    ]
    samples = [
        replace(s, grade=float(g), area=s.label * float(a))
        for s, g, a in zip(samples, *rng.random((2, N)), strict=True)
    ]
    return Fake(Store(Path(), samples, np.zeros((N, 4, 4, 1), np.uint8), masks), others)


def spec(task: str, classes: list[str], **options: Any) -> Spec:
    return Spec(task, "x", 4, 1, classes, options)


def repeated(weights: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(weights)), weights.astype(int))


def test_the_table_names_tasks() -> None:
    from ssl_defect.finetune import TASKS

    assert set(TASK_METRICS) <= set(TASKS)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_of_values_equal_scikit_learn_and_scipy_under_any_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, weights = rng.integers(0, 4, 30) / 3, rng.integers(0, 4, (3, 30)).astype(np.float32)
    values = np.round(truth + rng.normal(0, 0.4, 30), 1)  # ties in both
    found = regression_metrics.value_family(truth, values)(weights)
    for draw in range(3):
        rows = repeated(weights[draw])
        y, x = truth[rows], values[rows]
        assert found["mae"][draw] == pytest.approx(mean_absolute_error(y, x))
        assert found["rmse"][draw] == pytest.approx(root_mean_squared_error(y, x))
        assert found["r2"][draw] == pytest.approx(r2_score(y, x))
        assert found["spearman"][draw] == pytest.approx(spearmanr(y, x).statistic)


def test_constant_truth_leaves_what_needs_a_spread_undefined() -> None:
    found = regression_metrics.value_family(np.full(5, 1 / 3), np.arange(5) / 5)(np.ones((1, 5)))
    assert np.isnan(found["r2"])
    assert np.isnan(found["spearman"])
    assert np.isfinite(found["mae"])


@pytest.mark.parametrize("target", ["grade", "area"])
def test_regression_leaves_out_what_is_not_known(target: str) -> None:
    value = np.random.default_rng(3).random(N).astype(np.float32)
    results = make(["good", "spot"], value=value)
    samples = [
        replace(s, **{target: None if target == "grade" else 0.0}) if i % 5 == 1 else s
        for i, s in enumerate(results.store.samples)
    ]
    results.store = replace(results.store, samples=samples)
    known = (
        np.array([i for i in range(VAL, N) if samples[i].grade is not None])
        if target == "grade"
        else np.array([i for i in range(VAL, N) if not samples[i].label or samples[i].area > 0])
    )
    truth = np.array([getattr(samples[i], target) for i in known])
    found = task_metrics(results, spec("regression", ["good", "defective"], target=target))
    assert found is not None
    assert found["metrics"]["mae"]["value"] == pytest.approx(np.abs(truth - value[known]).mean(), rel=1e-5)
    assert found["metrics"]["mae"]["low"] < found["metrics"]["mae"]["value"] < found["metrics"]["mae"]["high"]
    assert found["note"].startswith(f"{N - VAL - len(known)} test images")
    assert set(found["names"]) == set(found["metrics"])


def test_regression_without_any_known_value_has_no_block() -> None:
    results = make(["good", "spot"], value=np.zeros(N))
    results.store = replace(results.store, samples=[replace(s, grade=None) for s in results.store.samples])
    assert task_metrics(results, spec("regression", ["good", "defective"], target="grade")) is None


def test_metrics_of_labels_equal_scikit_learn() -> None:
    values = np.random.default_rng(0).random((N, 3)).astype(np.float32)
    results = make(["good", "crack", "scratch", "crack+scratch"], labels=values)
    classes = ["good", "crack", "scratch", "spot"]
    found = task_metrics(results, spec("classification", classes, target="labels"))
    assert found is not None
    aps, areas = [], []
    for number, name in enumerate(("crack", "scratch")):
        truth = [name in defect for defect in results.defects]
        aps.append(average_precision_score(truth, values[VAL:, number]))
        areas.append(roc_auc_score(truth, values[VAL:, number]))
        assert found["classes"][name]["ap"]["value"] == pytest.approx(aps[-1])
        assert found["classes"][name]["auroc"]["value"] == pytest.approx(areas[-1])
        assert found["classes"][name]["ap"]["low"] < aps[-1] < found["classes"][name]["ap"]["high"]
    assert found["classes"]["spot"]["ap"]["value"] is None
    assert found["metrics"]["mean_ap"]["value"] == pytest.approx(np.mean(aps))
    assert found["metrics"]["mean_auroc"]["value"] == pytest.approx(np.mean(areas))
    assert "leave out spot" in found["note"]


def test_a_label_is_no_part_of_another_label() -> None:
    values = np.random.default_rng(0).random((N, 2)).astype(np.float32)
    results = make(["good", "crack", "cracked"], labels=values)
    found = label_metrics.measure(results, spec("classification", ["good", "crack", "cracked"], target="labels"))
    assert found is not None
    expected = roc_auc_score([defect == "crack" for defect in results.defects], values[VAL:, 0])
    assert found["classes"]["crack"]["auroc"]["value"] == pytest.approx(expected)


def test_mean_of_labels_under_weights_is_that_of_the_drawn_images() -> None:
    rng = np.random.default_rng(5)
    truth, values = rng.integers(0, 2, (20, 2)) > 0, rng.random((20, 2))
    weights = rng.integers(0, 3, (2, 20)).astype(np.float32)
    found = label_metrics.mean_family(truth, values)(weights)
    for draw in range(2):
        rows = repeated(weights[draw])
        expected = np.mean([roc_auc_score(truth[rows, i], values[rows, i]) for i in range(2)])
        assert found["mean_auroc"][draw] == pytest.approx(expected)
    none = label_metrics.mean_family(truth[:, :0], values[:, :0])(weights)
    assert np.isnan(none["mean_ap"]).all()


@pytest.mark.parametrize("options", [{"target": "defect"}, {}])
def test_two_classes_have_no_block_of_their_own(options: dict) -> None:
    values = np.random.default_rng(0).random((N, 2))
    results = make(["good", "spot"], probabilities=values)
    assert task_metrics(results, spec("classification", ["good", "spot"], **options)) is None


def test_classes_equal_scikit_learn() -> None:
    classes = ["good", "crack", "spot"]
    values = np.random.default_rng(0).random((N, 3))
    results = make(classes, probabilities=values)
    block = task_metrics(results, spec("classification", classes, target="defect"))
    assert block is not None
    truth = [classes.index(name) for name in results.defects]
    found = values[VAL:].argmax(axis=1)
    assert block["metrics"]["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(truth, found))
    assert block["metrics"]["macro_f1"]["value"] == pytest.approx(f1_score(truth, found, average="macro"))
    wanted = precision_recall_fscore_support(truth, found, labels=[0, 1, 2])
    for number, name in enumerate(classes):
        for metric, all_of_it in zip(("precision", "recall", "f1"), wanted, strict=False):
            cell = block["classes"][name][metric]
            assert cell["value"] == pytest.approx(all_of_it[number])
            assert cell["low"] <= cell["value"] <= cell["high"]
    assert block["note"] == ""


def test_a_class_unknown_in_training_is_a_mistake_for_what_it_is_taken_for() -> None:
    classes, kinds = ["good", "crack", "spot"], ["good", "crack", "spot", "dent"]
    values = np.random.default_rng(1).random((N, 3))
    results = make(kinds, probabilities=values)
    block = task_metrics(results, spec("classification", classes, target="defect"))
    assert block is not None
    truth, found = np.array([kinds.index(name) for name in results.defects]), values[VAL:].argmax(axis=1)
    assert block["note"].startswith(f"{(truth == 3).sum()} test images")
    assert block["classes"]["crack"]["precision"]["value"] == pytest.approx((truth[found == 1] == 1).mean())
    recalls = [(found[truth == i] == i).mean() for i in range(3)]
    assert block["metrics"]["balanced_accuracy"]["value"] == pytest.approx(np.mean(recalls))
    draws = np.random.default_rng(1).integers(0, 3, (2, len(truth))).astype(np.float32)
    for weights, value in zip(
        draws, class_metrics.mean_family(truth, found, [0, 1, 2])(draws)["macro_f1"], strict=True
    ):
        rows = repeated(weights)
        assert value == pytest.approx(f1_score(truth[rows], found[rows], labels=[0, 1, 2], average="macro"))


def class_maps() -> tuple[Fake, np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    kinds, classes = ["good", "crack", "spot"], ["good", "crack", "spot"]
    masks = (rng.random((N, 4, 4)) < 0.4).astype(np.uint8)
    masks[::3] = 0  # good
    number = np.array([i % 3 for i in range(N)])
    truth = masks * number[:, None, None]
    found = np.where(rng.random((N, 4, 4)) < 0.7, truth, rng.integers(0, 3, (N, 4, 4))).astype(np.uint8)
    # what is no defect is below the threshold, whatever the likeliest defect there
    seen, kind = np.where(found > 0, 0.25, 0.2), np.where(found > 0, found, 1 + rng.integers(0, 2, found.shape))
    return make(kinds, masks, class_map=kind.astype(np.uint8), map=seen), truth, found, classes


def test_overlaps_of_classes_equal_scikit_learn_on_the_same_pixels() -> None:
    results, truth, found, classes = class_maps()
    block = task_metrics(results, spec("segmentation", classes, target="defect"))
    assert block is not None
    y, x = truth[VAL:].ravel(), found[VAL:].ravel()
    ious, dices = jaccard_score(y, x, average=None), f1_score(y, x, average=None)
    for number, name in enumerate(classes):
        assert block["classes"][name]["class_iou"]["value"] == pytest.approx(ious[number])
        assert block["classes"][name]["class_dice"]["value"] == pytest.approx(dices[number])
        cell = block["classes"][name]["class_iou"]
        assert cell["low"] < cell["value"] < cell["high"]
    assert block["metrics"]["mean_iou"]["value"] == pytest.approx(jaccard_score(y, x, average="macro"))
    assert block["metrics"]["mean_defect_iou"]["value"] == pytest.approx(ious[1:].mean())


def test_overlaps_under_weights_are_those_of_the_drawn_images() -> None:
    _, truth, found, _ = class_maps()
    counts = np.stack([class_map_metrics.count_classes(t, f, 3) for t, f in zip(truth, found, strict=True)])
    assert counts.sum() == truth.size
    weights = np.random.default_rng(1).integers(0, 3, (2, N)).astype(np.float32)
    mean = class_map_metrics.mean_family(counts)(weights)["mean_iou"]
    one = class_map_metrics.class_family(counts, 2)(weights)["class_dice"]
    for draw in range(2):
        y, x = truth[repeated(weights[draw])].ravel(), found[repeated(weights[draw])].ravel()
        assert mean[draw] == pytest.approx(jaccard_score(y, x, average="macro"))
        assert one[draw] == pytest.approx(f1_score(y, x, average=None)[2])


def test_class_maps_without_their_masks_or_of_unknown_classes_are_left_out() -> None:
    results, truth, found, classes = class_maps()
    results.store.masks[VAL + 1] = 0  # a defective one
    found = np.minimum(found, 1)
    results.others["class_map"] = np.ones_like(found)
    block = task_metrics(results, spec("segmentation", classes[:2], target="defect"))
    assert block is not None
    kept = [i for i in range(VAL, N) if i % 3 < 2 and i != VAL + 1]
    assert f" {N - VAL - len(kept)} test images" in block["note"]
    expected = jaccard_score(truth[kept].ravel(), found[kept].ravel(), average=None)
    assert block["classes"]["crack"]["class_iou"]["value"] == pytest.approx(expected[1])


def test_a_class_that_no_pixel_has_is_undefined_and_not_in_the_mean() -> None:
    counts = class_map_metrics.count_classes(np.array([0, 0, 1]), np.array([0, 2, 1]), 3)[None]
    family, weights = class_map_metrics.class_family(counts, 2), np.ones((1, 1))
    assert np.isnan(family(weights)["class_iou"]).all()
    assert class_map_metrics.mean_family(counts)(weights)["mean_iou"] == pytest.approx((0.5 + 1) / 2)


def test_binary_maps_have_no_block_of_their_own() -> None:
    results, _, _, _ = class_maps()
    results.others.clear()
    assert task_metrics(results, spec("segmentation", ["good", "defective"])) is None
