"""Distillation: what a finished detector says of the pictures, as one more target for a new one.

Hinton et al. 2015 (arXiv:1503.02531, section 2): the student's softened outputs are drawn to the teacher's; gradients
of softened outputs shrink with the square of the temperature, so the loss is multiplied by it. The teacher sees the
very views that the student sees. It is no part of the student: not in its weights, its optimizer or its checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.config import FinetuneSettings
from ssl_defect.errors import UserError
from ssl_defect.nets.detector import Detector, Spec, load_detector

TASKS = ("classification", "segmentation", "regression")  # whose outputs are logits or a value of fixed shape


def softened(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Distance of the student's softened probabilities from the teacher's, times the squared temperature, >= 0.

    Args:
        student, teacher: logits of one shape: (B, K, ...) with K > 1, a softmax over K (Kullback-Leibler divergence,
            averaged over the rest); or (B, 1, ...), a sigmoid (the same of two outcomes).
        temperature: above 0; higher, the more the teacher's doubts count.
    """
    s, t = (logits.float() / temperature for logits in (student, teacher))
    if s.shape[1] == 1:
        s, t = (torch.cat([torch.zeros_like(x), x], dim=1) for x in (s, t))
    log_s, log_t = s.log_softmax(dim=1), t.log_softmax(dim=1)
    return (log_t.exp() * (log_t - log_s)).sum(dim=1).mean() * temperature**2


def per_label(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """As `softened`, for logits (B, K) of labels that do not exclude each other: the mean over images and labels."""
    return softened(student.reshape(-1, 1), teacher.reshape(-1, 1), temperature)


class Teacher:
    """A finished detector that a new one learns from; a plain object, so that no module takes it for its part."""

    def __init__(self, detector: Detector, settings: FinetuneSettings) -> None:
        self.detector = detector.eval().requires_grad_(False)
        self.weight, self.temperature = settings.distillation, settings.temperature

    def to(self, device: torch.device) -> Teacher:
        """Move it there."""
        self.detector.to(device)
        return self

    @torch.no_grad()
    def says(self, pictures: Tensor) -> Tensor:
        """Its logits or values of pictures (B, C, S, S) in [0, 1]; maps come back at their size."""
        size, own = pictures.shape[-1], self.detector.spec.image_size
        if size != own:
            pictures = F.interpolate(pictures, size=(own, own), mode="bilinear", antialias=True)
        outputs: dict[str, Tensor] = self.detector(pictures)
        found = outputs["value"] if "value" in outputs else outputs["logits"]
        if found.ndim == 4 and found.shape[-1] != size:
            found = F.interpolate(found, size=(size, size), mode="bilinear")
        return found

    def add(self, logs: dict[str, Tensor], pictures: Tensor, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The task's losses with the distance from the teacher added to "loss" and shown as "distillation"."""
        taught = self.says(pictures)
        if "value" in outputs:
            distance = F.mse_loss(outputs["value"].float(), taught.float())
        else:
            distance = self._distance(outputs["logits"], taught)
        return logs | {"loss": logs["loss"] + self.weight * distance, "distillation": distance.detach()}

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.detector.spec.options.get("target") == "labels":
            # the logit of good is always 0: no label, and both agree on it
            return per_label(student[:, 1:], teacher[:, 1:], self.temperature)
        return softened(student, teacher, self.temperature)


def load_teacher(settings: FinetuneSettings, student: Spec) -> Teacher | None:
    """The teacher that `finetune.teacher` names: a run's folder or a detector's file; None where it names none.

    Raises:
        UserError: it is missing, or was trained for something else than the student is.
    """
    if not settings.teacher:
        return None
    path = Path(settings.teacher).expanduser()
    detector = load_detector(teacher_file(settings.teacher))
    spec = getattr(detector, "spec", None)
    if not isinstance(detector, Detector) or not isinstance(spec, Spec):
        raise UserError(f"finetune.teacher: {path} is a classical detector; give one with an encoder")
    if student.task not in TASKS:
        raise UserError(f"finetune.teacher: {student.task} cannot be distilled; accepted: {', '.join(TASKS)}")
    for name in ("task", "classes", "channels"):
        mine, theirs = getattr(student, name), getattr(spec, name)
        if mine != theirs:
            raise UserError(f"finetune.teacher: {path} was trained with {name} {theirs}, this recipe has {mine}")
    for name in ("target", "pair"):
        mine, theirs = student.options.get(name), spec.options.get(name)
        if mine != theirs:
            raise UserError(f"finetune.teacher: {path} has options.{name} {theirs}, this recipe has {mine}")
    return Teacher(detector, settings)


def teacher_file(place: str) -> Path:
    """The file of a teacher that is named by its run's folder, or by itself."""
    path = Path(place).expanduser()
    return path / "finetune" / "model.safetensors" if path.is_dir() else path
