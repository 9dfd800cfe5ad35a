"""The steps of a detector that learns: the one loop, on good pictures, nothing but the head moving."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_defect.artifacts import atomic, digest
from ssl_defect.config import Recipe
from ssl_defect.console import minutes, say
from ssl_defect.data.store import Store
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.detector import Detector
from ssl_defect.train.batches import Batches
from ssl_defect.train.loop import Interval, Plan, fit
from ssl_defect.train.optim import make_adamw, warmup_cosine

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.csv"
LOOKS = 20  # lines of progress in a run
WARMUP = 0.05


class Learner(nn.Module):
    """What the loop is given: the head learns, the encoder is looked through."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        detector.still = "encoder"
        detector.encoder.requires_grad_(False)
        self.detector = detector

    def forward(self, batch: dict[str, Any], progress: float) -> dict[str, Tensor]:
        """The head's losses on the batch's "image", uint8 (B, C, S, S)."""
        head = self.detector.head
        assert isinstance(head, TrainedHead)
        return head.loss(self.detector.encoder, batch["image"].float() / 255, batch["generator"])


def train(
    recipe: Recipe, store: Store, rows: NDArray[np.int64], detector: Detector, fabric: Fabric, out: Path
) -> list[dict[str, float]]:
    """Take all steps, from the checkpoint in `out` where there is one; a row per look."""
    options, learner = detector.spec.options, Learner(detector)
    interval = max(1, options["steps"] // LOOKS)
    schedule = warmup_cosine(WARMUP)
    plan = Plan(
        options["steps"],
        interval,
        schedule,
        seed=recipe.seed,
        identity=digest([detector.spec.backbone, options, recipe.seed, rows.tolist()]),
        unit="look",
    )
    batches = Batches(store, rows, options["batch_size"], recipe.seed, fabric.device)
    optimizer = make_adamw([(detector.head, options["learning_rate"])], options["weight_decay"])
    state: dict[str, Any] = {}
    for here in fit(learner, batches, optimizer, plan, fabric, out / CHECKPOINT):
        state = here.state
        if here.logs:
            _note(here, options["learning_rate"] * schedule((here.step - 1) / here.steps))
            _write(out / HISTORY, state["history"])
    detector.eval()
    history: list[dict[str, float]] = state["history"]
    return history


def _note(here: Interval, rate: float) -> None:
    state = here.state
    parts = {name: value for name, value in here.logs.items() if name != "gradient_norm"}
    state["history"] = [*state.get("history", []), {"step": here.step, **parts, "learning_rate": rate}]
    state["seconds"] = state.get("seconds", 0.0) + here.seconds
    left = state["seconds"] / here.step * (here.steps - here.step)
    say(f"anomaly: step {here.step}/{here.steps}, loss {here.logs['loss']:.4f}, {minutes(left)} left")


def _write(path: Path, history: list[dict[str, float]]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
