"""What every task promises, and the metrics by which the best detector is chosen."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from ssl_defect.config import Settings, validate
from ssl_defect.finetune import TASKS
from ssl_defect.finetune.classification import mean_auroc
from ssl_defect.finetune.segmentation import average_precision, histogram
from ssl_defect.finetune.stage import find_task, is_trained, make_spec
from ssl_defect.finetune.start import build_detector
from ssl_defect.finetune.task import Task, Validation
from ssl_defect.train.batches import Batches


def build(case) -> Task:
    kind, options = find_task(case.recipe)
    spec = make_spec(case.recipe, case.store, kind, options)
    torch.manual_seed(0)
    detector, _ = build_detector(spec, case.pretrained / "encoder.safetensors")
    return kind(detector, options, case.store)


def batch_of(case, task: Task, count: int = 12) -> dict:
    targets = task.targets(case.store, task.views)
    return Batches(case.store, np.arange(90), count, 0, targets=targets, masks=True).gather(np.arange(count))


@pytest.mark.parametrize("name", TASKS)
def test_task_module_has_options_and_the_class(name: str) -> None:
    module = import_module(TASKS[name][0])
    assert issubclass(module.Options, Settings)
    assert issubclass(module.TASK, Task)
    assert all(field.description for field in module.Options.model_fields.values())
    assert TASKS[name][1].endswith(".")


@pytest.mark.parametrize("name", TASKS)
def test_gradients_reach_encoder_and_head(name: str, make_case: Callable) -> None:
    task = build(make_case(task=name))
    batch = batch_of(make_case(task=name), task) | {"generator": torch.Generator().manual_seed(0)}
    logs = task(batch, 0.5)
    assert all(value.ndim == 0 for value in logs.values())
    logs["loss"].backward()
    for part in (task.detector.encoder, task.detector.head):
        gradients = [p.grad is not None and bool(p.grad.any()) for p in part.parameters()]
        assert np.mean(gradients) > 0.5  # the rest stands behind weights that begin at 0


@pytest.mark.parametrize("name", TASKS)
def test_validation_does_not_depend_on_the_batches(name: str, make_case: Callable) -> None:
    case = make_case(task=name)
    task = build(case).eval()
    whole, batches = batch_of(case, task), []
    for part in (slice(0, 5), slice(5, 12)):
        batches.append({key: value[part] for key, value in whole.items()})
    with torch.no_grad():
        one, two = task.validation([whole]), task.validation(batches)
    assert one.metric == two.metric
    assert one.value == pytest.approx(two.value, abs=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_validation_without_a_defect_falls_back_to_the_loss(name: str, make_case: Callable) -> None:
    case = make_case(task=name)
    task = build(case).eval()
    whole = batch_of(case, task)
    good = {key: value[whole["label"] == 0] for key, value in whole.items()}
    with torch.no_grad():
        found = task.validation([good])
    assert found.metric == "-loss"
    assert found.value == -found.loss


@pytest.mark.parametrize("name", TASKS)
def test_loss_is_computed_under_bfloat16(name: str, make_case: Callable) -> None:
    case = make_case(task=name)
    task = build(case)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task(batch_of(case, task) | {"generator": torch.Generator().manual_seed(0)}, 0.0)["loss"]
    assert loss.dtype == torch.float32
    assert bool(torch.isfinite(loss))


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
    good = {key: value[whole["label"] == 0] for key, value in whole.items()} | {"generator": torch.Generator()}
    assert task(good, 0.0)["loss"] == 0


def test_options_of_both_tasks_take_the_views() -> None:
    for module, _ in TASKS.values():
        kind = import_module(module).Options
        assert validate(kind, {"crop": 1.0, "flips": False}, "here").crop == 1.0
