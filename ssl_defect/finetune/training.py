"""The fine-tuning run: the loop, the looks at the validation images, early stopping, the best detector kept."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from ssl_defect.artifacts import atomic, digest, file_digest
from ssl_defect.config import Recipe
from ssl_defect.console import minutes, say
from ssl_defect.data.store import Store
from ssl_defect.finetune.learner import Learner, rate_of
from ssl_defect.finetune.sampling import BalancedBatches, Rows
from ssl_defect.finetune.task import Batch, Task, Validation
from ssl_defect.nets.detector import save_detector
from ssl_defect.train.batches import Batches
from ssl_defect.train.loop import Interval, Plan, fit
from ssl_defect.train.schedules import on_plateau

MODEL = "model.safetensors"
LAST = "last.safetensors"
HISTORY = "history.csv"
CHECKPOINT = "checkpoint.pt"
VALIDATION_BATCH = 64  # images; changes nothing but the memory


@dataclass(frozen=True)
class Work:
    """One fine-tuning: what learns, from which rows, starting from which encoder (`meta`: what it is), to where."""

    recipe: Recipe
    store: Store
    task: Task
    rows: Rows
    encoder_file: Path
    meta: dict[str, str]
    out: Path


def train(work: Work, fabric: Fabric) -> dict[str, Any]:
    """Train until the last step, or until `patience` looks brought nothing better; keep the last detector as well.

    Returns:
        "history" (a row per look), "best" (step, metric, value, loss), "since_best" (looks), "seconds".
    """
    settings, learner = work.recipe.finetune, Learner(work.task, work.recipe.finetune)
    rate = rate_of(settings)
    plan = Plan(
        settings.steps,
        settings.eval_every,
        rate,
        clip_norm=settings.clip_norm,
        seed=work.recipe.seed,
        identity=identity_of(work, fabric),
        unit="look",
    )
    looks, state = Looks(work, learner, fabric), dict[str, Any]()
    for interval in fit(learner, make_batches(work, fabric), learner.optimizer, plan, fabric, work.out / CHECKPOINT):
        state = interval.state
        if interval.logs:
            looks.take(interval, settings.learning_rate * rate((interval.step - 1) / interval.steps))
        if settings.schedule == "plateau":
            if interval.logs:
                on_plateau(state, state["since_best"] == 0, settings.plateau_patience, settings.drop_factor)
            rate.factor = state.get("plateau", {}).get("factor", 1.0)
        if state.get("since_best", 0) >= settings.patience:
            say(f"finetune: stopped at step {interval.step}: nothing better in {settings.patience} looks")
            break
    if fabric.is_global_zero:
        save_detector(work.out / LAST, learner.detector, work.meta)
    return state


def identity_of(work: Work, fabric: Fabric) -> str:
    """What a checkpoint must share with a run that goes on from it: settings, seed, processes, rows and encoder."""
    settings, seed = work.recipe.finetune.model_dump(), work.recipe.seed
    return digest([settings, seed, fabric.world_size, work.rows.tolist(), file_digest(work.encoder_file)])


def make_batches(work: Work, fabric: Fabric) -> Batches:
    """The batches to train on, drawn as `finetune.sampling` says."""
    settings, task = work.recipe.finetune, work.task
    kind: Callable[..., Batches] = Batches if settings.sampling == "uniform" else BalancedBatches
    return kind(
        work.store,
        work.rows,
        settings.batch_size,
        work.recipe.seed,
        fabric.device,
        **strata_of(work),
        targets=task.targets(work.store, task.views),
        masks=work.store.masks is not None,
        extras=task.extras(work.store, task.views),
        rank=fabric.global_rank,
        processes=fabric.world_size,
    )


def strata_of(work: Work) -> dict[str, Any]:
    """What `BalancedBatches` balances: the task's strata, or good against the kinds of defects."""
    sampling, store = work.recipe.finetune.sampling, work.store
    if sampling == "uniform":
        return {}
    if sampling == "balanced":
        return {"strata": work.task.strata(store, work.task.views)}
    return {"strata": store.class_numbers, "half_good": True}


class Looks:
    """Looks at the validation images during training; the best detector so far is written to `model.safetensors`."""

    def __init__(self, work: Work, learner: Learner, fabric: Fabric) -> None:
        self.work, self.learner, self.fabric = work, learner, fabric
        self.rows: NDArray[Any] = work.store.rows("val")
        task, store = work.task, work.store
        self.source = Batches(
            store,
            self.rows,
            VALIDATION_BATCH,
            0,
            fabric.device,
            targets=task.targets(store, task.views),
            masks=store.masks is not None,
            extras=task.extras(store, task.views),
        )

    def take(self, interval: Interval, rate: float) -> None:
        """Validate, note it in the interval's state, keep the detector where it is the best so far."""
        start, state = time.monotonic(), interval.state
        found = self._validate()
        parts = {name: value for name, value in interval.logs.items() if name != "gradient_norm"}
        row = {"step": interval.step, **parts, "learning_rate": rate, "validation": found.value}
        state["history"] = [*state.get("history", []), row]
        best = state.get("best")
        better = best is None or found.rank > (best["value"], -best["loss"])
        if better:
            state["best"] = {"step": interval.step, "metric": found.metric, "value": found.value, "loss": found.loss}
        state["since_best"] = 0 if better else state["since_best"] + 1
        if self.fabric.is_global_zero:
            if better:
                save_detector(self.work.out / MODEL, self.learner.detector, self.work.meta)
            write_history(self.work.out / HISTORY, state["history"])
        state["seconds"] = state.get("seconds", 0.0) + interval.seconds + time.monotonic() - start
        self._say(interval, found, better)

    @torch.no_grad()
    def _validate(self) -> Validation:
        """What the first process sees: statistics of BatchNorm differ between processes, and all must stop as one."""
        with self.fabric.autocast(), self.learner.shown() as task:
            own = task.validation(self._batches())
        found: Validation = self.fabric.broadcast(own)
        return found

    def _batches(self) -> Iterator[Batch]:
        for start in range(0, len(self.rows), VALIDATION_BATCH):
            batch = self.source.gather(self.rows[start : start + VALIDATION_BATCH])
            yield {name: value.to(self.fabric.device, non_blocking=True) for name, value in batch.items()}

    @staticmethod
    def _say(interval: Interval, found: Validation, better: bool) -> None:
        left = interval.state["seconds"] / interval.step * (interval.steps - interval.step)
        say(
            f"finetune: step {interval.step}/{interval.steps}, loss {interval.logs['loss']:.4f}, validation "
            f"{found.metric} {found.value:.4f}{' (best)' if better else ''}, at most {minutes(left)} left"
        )


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write a CSV of step, loss, its parts, learning rate and validation: a row per look."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
