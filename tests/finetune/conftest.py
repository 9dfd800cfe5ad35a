"""A small prepared set of textured parts with bright spots, easy enough to be learnt in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_defect.config import Recipe
from ssl_defect.data.records import Sample, write_samples
from ssl_defect.data.store import Store, open_store
from ssl_defect.finetune.learner import Learner
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.weights import save_encoder

SIZE = 32
KINDS = ("good", "scratch", "spot")


@dataclass(frozen=True)
class Case:
    """A recipe and the two stages before fine-tuning."""

    recipe: Recipe
    prepared: Path
    pretrained: Path

    @property
    def store(self) -> Store:
        return open_store(self.prepared)


def draw_part(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (S, S) noise, with a bright square, a dark line or both, and the mask of it."""
    image, spot, scratch = rng.normal(120, 12, (SIZE, SIZE)), np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    y, x = rng.integers(4, SIZE - 10, 2)
    if "spot" in kind:
        spot[y : y + 5, x : x + 5] = 1
    if "scratch" in kind:
        scratch[y : y + 2, :] = 1
    image += 90.0 * spot - 90.0 * scratch
    return image.clip(0, 255).astype(np.uint8), np.maximum(spot, scratch).astype(np.uint8)


def write_prepared(
    folder: Path,
    kinds: tuple[str, ...] = KINDS,
    count: int = 90,
    masks: bool = True,
    grades: bool = True,
    pairs: bool = False,
) -> Path:
    """The grade of a spot is 1, that of any other defect 0.5; `pairs`: two of a kind and split make a group."""
    folder.mkdir(parents=True)
    rng, samples, images, drawn = np.random.default_rng(0), [], [], []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        image, mask = draw_part(kind, rng)
        split = ("train", "val", "train", "test")[number // len(kinds) % 4]
        grade = 1.0 if "spot" in kind else 0.5 * (kind != "good")
        sample = Sample(f"{kind}/{number}.png", "", int(kind != "good"), kind, number, split)
        sample = replace(sample, group=number - number // (4 * len(kinds)) % 2 * 4 * len(kinds) if pairs else number)
        samples.append(replace(sample, grade=grade if grades else None, area=float(mask.mean()) if masks else 0.0))
        images.append(image[..., None])
        drawn.append(mask)
    write_samples(folder / "samples.csv", samples)
    np.save(folder / "images.npy", np.stack(images))
    if masks:
        np.save(folder / "masks.npy", np.stack(drawn))
    return folder


def write_pretrained(folder: Path, backbone: str = "test_resnet", origin: str = "random initialisation") -> Path:
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_encoder(folder / "encoder.safetensors", build_encoder(backbone, SIZE), {"method": "none", "origin": origin})
    return folder


def make_recipe(backbone: str = "test_resnet", **finetune: Any) -> Recipe:
    settings = {"steps": 30, "eval_every": 10, "batch_size": 16, "learning_rate": 3e-3, "encoder_learning_rate": 3e-3}
    return Recipe.model_validate(
        {
            "name": "small",
            "data": {"source": "synthetic", "root": "nowhere", "image_size": SIZE},
            "model": {"backbone": backbone},
            "finetune": settings | finetune,
            "compute": {"threads": 1, "device": "cpu", "precision": "float32"},
        }
    )


@pytest.fixture(scope="session")
def make_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Case]:
    """Call it with `kinds`, `count`, `masks`, `grades`, `pairs`, `backbone`, `origin`, and any setting of finetune."""

    def make(**settings: Any) -> Case:
        folder = tmp_path_factory.mktemp("case")
        data = {name: settings.pop(name) for name in ("kinds", "count", "masks", "grades", "pairs") if name in settings}
        backbone = settings.pop("backbone", "test_resnet")
        origin = settings.pop("origin", "random initialisation")
        prepared = write_prepared(folder / "prepare", **data)
        pretrained = write_pretrained(folder / "pretrain", backbone, origin)
        return Case(make_recipe(backbone, **settings), prepared, pretrained)

    return make


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The raw weights after each step of whatever is trained."""
    seen: list[dict[str, torch.Tensor]] = []
    after_step = Learner.after_step

    def spy(self: Learner, progress: float) -> None:
        after_step(self, progress)
        seen.append({name: value.clone() for name, value in self.task.detector.state_dict().items()})

    monkeypatch.setattr(Learner, "after_step", spy)
    return seen
