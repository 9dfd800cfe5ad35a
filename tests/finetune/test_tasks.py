"""What every task promises, and the metrics by which the best detector is chosen."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from ssl_defect.config import Settings, validate
from ssl_defect.finetune import TASKS
from ssl_defect.finetune.classification import mean_auroc
from ssl_defect.finetune.pixel_ap import average_precision, histogram
from ssl_defect.finetune.stage import find_task, is_trained, make_spec
from ssl_defect.finetune.start import build_detector
from ssl_defect.finetune.task import Task, Validation
from ssl_defect.train.batches import Batches

OWN = {"classification", "regression", "segmentation"}


VARIANTS: dict[str, dict[str, Any]] = {
    "binary": {"task": "classification"},
    "defect": {"task": "classification", "options": {"target": "defect", "losses": {"cross_entropy": 1, "focal": 2}}},
    "labels": {"task": "classification", "options": {"target": "labels", "losses": {"bce": 1, "focal": 1}}},
    "mixed": {"task": "classification", "options": {"target": "defect", "mixup": 0.4, "cutmix": 1.0}},
    "mixed labels": {"task": "classification", "options": {"target": "labels", "mixup": 0.4, "cutmix": 1.0}},
    "compared": {"task": "classification", "options": {"pair": "group", "attention": "se"}, "pairs": True},
    "golden": {"task": "classification", "options": {"pair": "golden"}},
    "grade": {"task": "regression", "options": {"losses": {"l1": 1, "huber": 1}}},
    "area": {"task": "regression", "options": {"target": "area", "attention": "cbam"}},
    "linear area": {"task": "regression", "options": {"target": "area", "scale": "linear", "pair": "group"}},
    "unet": {"task": "segmentation"},
    "fcn": {
        "task": "segmentation",
        "options": {"decoder": "fcn", "decoder_width": 8, "losses": {"bce": 1, "lovasz": 1}},
    },
    "fpn": {"task": "segmentation", "options": {"decoder": "fpn", "decoder_width": 8, "attention": "cbam"}},
    "deeplabv3plus": {"task": "segmentation", "options": {"decoder": "deeplabv3plus", "losses": {"tversky": 1}}},
    "classes": {
        "task": "segmentation",
        "options": {"target": "defect", "losses": {"cross_entropy": 1, "dice": 1}, "deep_supervision": 0.5},
    },
    "deep": {"task": "segmentation", "options": {"deep_supervision": 0.5, "decoder_width": 8, "decoder": "fpn"}},
    "compared masks": {"task": "segmentation", "options": {"pair": "group", "decoder_width": 8}, "pairs": True},
}
NO_FALLBACK = {"grade", "area", "linear area"}  # an error is defined without defects


def build(case) -> Task:
    kind, options = find_task(case.recipe)
    spec = make_spec(case.recipe, case.store, kind, options)
    torch.manual_seed(0)
    detector, _ = build_detector(spec, case.pretrained / "encoder.safetensors")
    return kind(detector, options, case.store)


def batch_of(case, task: Task, count: int = 12) -> dict:
    targets, extras = task.targets(case.store, task.views), task.extras(case.store, task.views)
    source = Batches(case.store, np.arange(90), count, 0, targets=targets, masks=True, extras=extras)
    return source.gather(np.arange(count))


def drawn(seed: int = 0) -> dict[str, torch.Generator]:
    return {"generator": torch.Generator().manual_seed(seed)}


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest, make_case: Callable):
    return make_case(**VARIANTS[request.param]), request.param


def test_every_task_is_tried() -> None:
    assert {settings["task"] for settings in VARIANTS.values()} >= OWN


@pytest.mark.parametrize("name", TASKS)
def test_task_module_has_options_and_the_class(name: str) -> None:
    module = import_module(TASKS[name][0])
    assert issubclass(module.Options, Settings)
    assert issubclass(module.TASK, Task)
    assert all(field.description for field in module.Options.model_fields.values())
    assert TASKS[name][1].endswith(".")


def test_gradients_reach_encoder_and_head(variant) -> None:
    case, _ = variant
    task = build(case).train()
    logs = task(batch_of(case, task) | drawn(), 0.5)
    assert all(value.ndim == 0 for value in logs.values())
    logs["loss"].backward()
    for part in (task.detector.encoder, task.detector.head):
        gradients = [p.grad is not None and bool(p.grad.any()) for p in part.parameters()]
        assert np.mean(gradients) > 0.5  # the rest stands behind weights that begin at 0


def test_the_loss_is_the_weighted_sum_that_is_announced(variant) -> None:
    case, _ = variant
    task = build(case).train()
    logs = task(batch_of(case, task) | drawn(), 0.5)
    assert set(logs) == {"loss", *task.losses}
    expected = sum(weight * logs[name].item() for name, weight in task.losses.items())
    assert logs["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_a_teacher_is_asked_about_the_pictures_that_are_learnt_from(variant) -> None:
    case, _ = variant
    task, seen = build(case).train(), []
    task.teacher = SimpleNamespace(add=lambda *given: seen.append(given) or given[0] | {"loss": given[0]["loss"] + 1})
    given = batch_of(case, task)
    torch.manual_seed(0)
    taught = task(given | drawn(), 0.5)
    logs, pictures, outputs = seen.pop()
    assert taught["loss"] == logs["loss"] + 1
    assert pictures.shape[0] == len(given["image"])
    assert pictures.dtype == torch.float32
    assert "logits" in outputs


def test_a_step_is_a_function_of_its_seed(variant) -> None:
    case, _ = variant
    task = build(case).train()
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        losses.append(task(batch_of(case, task) | drawn(seed), 0.5)["loss"].item())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_validation_does_not_depend_on_the_batches(variant) -> None:
    case, _ = variant
    task = build(case).eval()
    whole, batches = batch_of(case, task), []
    for part in (slice(0, 5), slice(5, 12)):
        batches.append({key: value[part] for key, value in whole.items()})
    with torch.no_grad():
        one, two = task.validation([whole]), task.validation(batches)
    assert one.metric == two.metric
    assert one.value == pytest.approx(two.value, abs=1e-5)


def test_validation_without_a_defect_falls_back_to_the_loss(variant) -> None:
    case, name = variant
    task = build(case).eval()
    whole = batch_of(case, task)
    good = {key: value[whole["label"] == 0] for key, value in whole.items()}
    with torch.no_grad():
        found = task.validation([good])
    assert np.isfinite(found.value)
    if name not in NO_FALLBACK:
        assert found.metric == "-loss"
        assert found.value == -found.loss


def test_loss_is_computed_under_bfloat16(variant) -> None:
    case, _ = variant
    task = build(case).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = task(batch_of(case, task) | drawn(), 0.0)["loss"]
    assert loss.dtype == torch.float32
    assert bool(torch.isfinite(loss))


def test_strata_and_targets_have_a_row_for_every_image(variant) -> None:
    case, _ = variant
    task = build(case)
    targets, strata = task.targets(case.store, task.views), task.strata(case.store, task.views)
    assert len(targets) == len(strata) == len(case.store.samples)
    assert strata.dtype == np.int64
    assert targets.dtype in {np.dtype(np.int64), np.dtype(np.float32)}


def test_of_equal_values_the_lower_loss_wins() -> None:
    assert Validation("AUROC", 0.9, 0.4).rank > Validation("AUROC", 0.9, 0.5).rank
    assert Validation("AUROC", 0.91, 9.0).rank > Validation("AUROC", 0.9, 0.1).rank


def test_mean_auroc_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 60).astype(np.float32)
    target = rng.integers(0, 3, 60)
    assert mean_auroc(probabilities, target) == pytest.approx(roc_auc_score(target, probabilities, multi_class="ovr"))
    two = np.stack([1 - probabilities[:, 0], probabilities[:, 0]], axis=1)
    assert mean_auroc(two, (target == 0).astype(np.int64)) == pytest.approx(
        roc_auc_score(target == 0, probabilities[:, 0]), abs=1e-6
    )
    assert mean_auroc(probabilities, np.zeros(60, np.int64)) is None


def test_pixel_average_precision_against_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    masks = (torch.rand(4, 1, 32, 32, generator=draw) < 0.05).long()
    logits = 3 * torch.randn(4, 1, 32, 32, generator=draw) + 4 * masks - 5
    counts = histogram(logits[:1], masks[:1]) + histogram(logits[1:], masks[1:])
    expected = average_precision_score(masks.flatten(), logits.flatten())
    assert counts.sum() == masks.numel()
    assert average_precision(counts) == pytest.approx(expected, abs=2e-3)
    assert average_precision(histogram(logits, 0 * masks)) is None


@pytest.mark.parametrize(
    ("method", "origin", "trained"),
    [
        ("none", "random initialisation", False),
        ("none", "resnet.pth", True),
        ("simclr", "random initialisation", True),
        ("imagenet", "ImageNet (timm hub)", True),
    ],
)
def test_what_counts_as_a_trained_encoder(method: str, origin: str, trained: bool) -> None:
    assert is_trained({"method": method, "origin": origin}) is trained


def test_class_weights_reach_the_loss(make_case: Callable) -> None:
    case = make_case(options={"class_weights": {"good": 0.0}, "dropout": 0.0})
    task = build(case).eval()
    whole = batch_of(case, task)
    good = {key: value[whole["label"] == 0] for key, value in whole.items()} | drawn()
    assert task(good, 0.0)["loss"] == 0


def test_options_of_every_task_take_the_views() -> None:
    for name in OWN:
        kind = import_module(TASKS[name][0]).Options
        assert validate(kind, {"crop": 1.0, "flips": False}, "here").crop == 1.0
