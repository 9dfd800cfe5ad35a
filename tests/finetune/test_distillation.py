"""Distillation from a finished detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ssl_defect.config import FinetuneSettings
from ssl_defect.errors import UserError
from ssl_defect.finetune.distillation import Teacher, load_teacher, per_label, softened
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec, save_detector


def noise(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 6, 6)])
def test_softened_against_torch(shape: tuple[int, ...], temperature: float) -> None:
    student, teacher = noise(*shape), noise(*shape, seed=1)
    flat = [x.movedim(1, -1).reshape(-1, shape[1]) / temperature for x in (student, teacher)]
    expected = F.kl_div(flat[0].log_softmax(1), flat[1].softmax(1), reduction="batchmean") * temperature**2
    assert softened(student, teacher, temperature) == pytest.approx(expected.item(), rel=1e-6)


def test_one_logit_is_a_sigmoid() -> None:
    student, teacher = noise(4, 1, 5, 5), noise(4, 1, 5, 5, seed=1)
    p, q = torch.sigmoid(teacher / 2), torch.sigmoid(student / 2)
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert softened(student, teacher, 2.0) == pytest.approx(4 * divergence.mean().item(), rel=1e-5)
    assert per_label(student[:, 0, 0], teacher[:, 0, 0], 2.0) == pytest.approx(
        4 * divergence[:, 0, 0].mean().item(), rel=1e-5
    )


def test_it_is_least_where_both_agree_and_stays_finite() -> None:
    teacher = noise(6, 3)
    assert softened(teacher, teacher, 2.0) == pytest.approx(0, abs=1e-6)
    assert softened(noise(6, 3, seed=2), teacher, 2.0) > 0
    far = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = softened(far, -far.detach(), 1.0)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(far.grad).all())


def test_the_gradient_points_to_the_teacher() -> None:
    student, teacher = noise(4, 3).float().requires_grad_(True), noise(4, 3, seed=1).float()
    optimizer = torch.optim.SGD([student], lr=5.0)
    for _ in range(300):
        optimizer.zero_grad()
        softened(student, teacher, 2.0).backward()
        optimizer.step()
    assert torch.allclose(student.softmax(1), teacher.softmax(1), atol=0.02)


SPEC = Spec("classification", "test_resnet", 32, 1, ["good", "defective"], {"dropout": 0.0, "target": "binary"})


def stored(path: Path, spec: Spec = SPEC) -> Path:
    torch.manual_seed(0)
    save_detector(path, Detector(build_encoder(spec.backbone, spec.image_size), spec))
    return path


def test_the_teacher_is_no_part_of_a_module_and_learns_nothing(tmp_path: Path) -> None:
    settings = FinetuneSettings(teacher=str(stored(tmp_path / "model.safetensors")), distillation=2.0)
    teacher = load_teacher(settings, SPEC)
    assert isinstance(teacher, Teacher)
    pictures = torch.rand(3, 1, 32, 32)
    outputs = {"logits": torch.zeros(3, 2, requires_grad=True)}
    logs = teacher.add({"loss": torch.tensor(1.0)}, pictures, outputs)
    expected = softened(outputs["logits"], teacher.detector(pictures)["logits"], settings.temperature)
    assert logs["distillation"] == pytest.approx(expected.item())
    assert logs["loss"].item() == pytest.approx(1 + 2 * expected.item())
    logs["loss"].backward()
    assert outputs["logits"].grad is not None
    assert all(p.grad is None and not p.requires_grad for p in teacher.detector.parameters())
    assert not teacher.detector.training


def test_of_labels_the_constant_logit_of_good_does_not_count(tmp_path: Path) -> None:
    classes, options = ["good", "crack", "spot"], {"dropout": 0.0, "target": "labels"}
    spec = replace(SPEC, classes=classes, options=options)
    teacher = load_teacher(FinetuneSettings(teacher=str(stored(tmp_path / "model.safetensors", spec))), spec)
    assert teacher is not None
    pictures, logits = torch.rand(3, 1, 32, 32), F.pad(noise(3, 2).float(), (1, 0))
    taught = teacher.says(pictures)
    assert not taught[:, 0].any()
    p, q = (torch.sigmoid(x[:, 1:] / teacher.temperature) for x in (taught, logits))
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    expected = teacher.temperature**2 * divergence.mean().item()  # over 3 images and 2 labels
    assert expected > 0
    logs = teacher.add({"loss": torch.tensor(0.0)}, pictures, {"logits": logits})
    assert logs["distillation"].item() == pytest.approx(expected, rel=1e-5)


def test_a_teacher_of_larger_pictures_sees_them_enlarged(tmp_path: Path) -> None:
    path = stored(tmp_path / "model.safetensors", replace(SPEC, image_size=64))
    teacher = load_teacher(FinetuneSettings(teacher=str(path)), SPEC)
    assert teacher is not None
    assert teacher.says(torch.rand(2, 1, 32, 32)).shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"classes": ["good", "crack", "spot"]}, "classes"),
        ({"channels": 3}, "channels 1"),
        ({"task": "segmentation"}, "trained with task classification"),
        ({"task": "detection"}, "detection cannot be distilled"),
        ({"options": {"target": "defect"}}, "options.target binary"),
    ],
)
def test_a_teacher_of_something_else_is_refused(tmp_path: Path, change: dict, line: str) -> None:
    settings = FinetuneSettings(teacher=str(stored(tmp_path / "model.safetensors")))
    with pytest.raises(UserError, match=line):
        load_teacher(settings, replace(SPEC, **change))


def test_no_teacher_and_a_missing_one(tmp_path: Path) -> None:
    assert load_teacher(FinetuneSettings(), SPEC) is None
    with pytest.raises(UserError, match="nowhere"):
        load_teacher(FinetuneSettings(teacher=str(tmp_path / "nowhere")), SPEC)


def test_training_with_a_teacher_brings_the_student_to_it(make_case: Callable, tmp_path: Path) -> None:
    from ssl_defect.artifacts import read_json
    from ssl_defect.finetune.stage import finetune

    case = make_case(steps=20)
    finetune(case.recipe, case.prepared, case.pretrained, tmp_path / "teacher" / "finetune")
    taught = case.recipe.finetune.model_copy(update={"teacher": str(tmp_path / "teacher"), "distillation": 5.0})
    recipe = case.recipe.model_copy(update={"finetune": taught})
    finetune(recipe, case.prepared, case.pretrained, tmp_path / "student")
    history = (tmp_path / "student" / "history.csv").read_text().splitlines()
    names = history[0].split(",")
    values = [float(row.split(",")[names.index("distillation")]) for row in history[1:]]
    assert values[-1] < values[0]
    assert read_json(tmp_path / "student" / "finetune.json")["losses"]["distillation"] == 5.0
