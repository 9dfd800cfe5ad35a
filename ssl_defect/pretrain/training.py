"""The pretraining run: the loop, the probe between epochs, what is said and kept, and the watch for a collapse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ssl_defect.artifacts import digest
from ssl_defect.config import Recipe
from ssl_defect.console import minutes, say
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.nets.weights import save_encoder
from ssl_defect.pretrain.base import COLLAPSED, Method
from ssl_defect.pretrain.history import shown, write_history
from ssl_defect.pretrain.probe import Probe
from ssl_defect.train.batches import Batches, Rows
from ssl_defect.train.loop import Interval, Plan, fit
from ssl_defect.train.optim import make_adamw, warmup_cosine
from ssl_defect.train.seeds import mixed_seed

ENCODER = "encoder.safetensors"
CHECKPOINT = "checkpoint.pt"
PRELIMINARY = "preliminary.pt"


@dataclass(frozen=True)
class Work:
    """One pretraining: what learns, from which rows, from which starting weights, to where."""

    recipe: Recipe
    method: Method
    store: Store
    rows: Rows
    origin: str
    out: Path


def train(work: Work, probe: Probe, fabric: Fabric) -> dict[str, Any]:
    """Train to the last epoch.

    Returns:
        "rows": a dict per epoch; "before" and "after": the probe, None where it cannot be measured.
    """
    settings, method = work.recipe.pretrain, work.method
    batches = make_batches(work, fabric)
    plan = make_plan(work, batches.steps_per_epoch, fabric)
    optimizer = make_adamw([(method, settings.learning_rate)], settings.weight_decay)
    state: dict[str, Any] = {}
    for interval in fit(method, batches, optimizer, plan, fabric, work.out / CHECKPOINT):
        state = interval.state
        epoch = interval.step // batches.steps_per_epoch
        if not interval.logs:
            _open(state, epoch, work, probe)
            continue
        _check_collapse(interval, epoch, work)
        row = _row(interval, epoch, settings.learning_rate * plan.schedule((interval.step - 1) / interval.steps))
        if epoch % settings.probe_every == 0 or epoch == settings.epochs:
            measured = probe.measure(method.encoder)
            row |= {"probe": measured["auroc"], "feature_spread": measured["spread"]}
            state["after"] = measured["auroc"]
        state["rows"].append(row)
        if fabric.is_global_zero:
            _keep(work, epoch, state)
    return state


def train_preliminary(work: Work, fabric: Fabric) -> None:
    """Train what the method needs before it can begin, such as a tokenizer, with the same loop and images."""
    found = work.method.preliminary()
    if found is None:
        return
    module, epochs = found
    settings, batches = work.recipe.pretrain, make_batches(work, fabric)
    plan = replace(
        make_plan(work, batches.steps_per_epoch, fabric),
        steps=epochs * batches.steps_per_epoch,
        seed=mixed_seed(work.recipe.pretrain_seed, 2),
    )
    optimizer = make_adamw([(module, settings.learning_rate)], settings.weight_decay)
    for interval in fit(module, batches, optimizer, plan, fabric, work.out / PRELIMINARY):
        epoch = interval.step // batches.steps_per_epoch
        if interval.logs:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in interval.logs.items() if name != "gradient_norm")
            say(f"{settings.method}: {type(module).__name__.lower()}, epoch {epoch}/{epochs}, {shown}")


def make_batches(work: Work, fabric: Fabric) -> Batches:
    """The run's batches for this process."""
    return Batches(
        work.store,
        work.rows,
        work.recipe.pretrain.batch_size,
        work.recipe.pretrain_seed,
        fabric.device,
        partners=work.method.partners,
        rank=fabric.global_rank,
        processes=fabric.world_size,
    )


def make_plan(work: Work, steps_per_epoch: int, fabric: Fabric) -> Plan:
    """The run's plan: an interval is an epoch."""
    settings, recipe = work.recipe.pretrain, work.recipe
    learned = settings.model_dump(exclude={"keep_every", "probe_every"})
    precision = [recipe.compute.precision, fabric.world_size]
    return Plan(
        steps=settings.epochs * steps_per_epoch,
        interval=steps_per_epoch,
        schedule=warmup_cosine(settings.warmup),
        clip_norm=settings.clip_norm,
        seed=recipe.pretrain_seed,
        identity=digest([learned, recipe.model.model_dump(), recipe.pretrain_seed, precision, work.rows.tolist()]),
        unit="epoch",
    )


def _open(state: dict[str, Any], epoch: int, work: Work, probe: Probe) -> None:
    method, epochs = work.recipe.pretrain.method, work.recipe.pretrain.epochs
    if epoch:
        say(f"{method}: going on after epoch {epoch} of {epochs}")
        return
    measured = probe.measure(work.method.encoder)["auroc"]
    state |= {"before": measured, "after": None, "rows": []}
    say(f"{method}: {len(work.rows)} images, {epochs} epochs, from {work.origin}; probe {shown(measured)}")


def _row(interval: Interval, epoch: int, learning_rate: float) -> dict[str, Any]:
    return {
        "epoch": epoch,
        **interval.logs,
        "learning_rate": learning_rate,
        "images_per_second": interval.images_per_second,
        "seconds": interval.seconds,
        "probe": None,
        "feature_spread": None,
    }


def _keep(work: Work, epoch: int, state: dict[str, Any]) -> None:
    settings, row = work.recipe.pretrain, state["rows"][-1]
    write_history(work.out, state["rows"])
    if settings.keep_every and epoch % settings.keep_every == 0:
        meta = {"method": settings.method, "origin": work.origin, "epoch": str(epoch)}
        save_encoder(work.out / f"encoder-epoch-{epoch:04d}.safetensors", work.method.encoder, meta)
    left = sum(r["seconds"] for r in state["rows"]) / epoch * (settings.epochs - epoch)
    probed = f", probe {shown(row['probe'])}" if row["probe"] is not None else ""
    say(
        f"{settings.method}: epoch {epoch}/{settings.epochs}, loss {row['loss']:.4f}{probed}, "
        f"{row['images_per_second']:.0f} images/s, {minutes(left)} left"
    )


def _check_collapse(interval: Interval, epoch: int, work: Work) -> None:
    value = interval.logs.get("spread")
    if value is None or value >= COLLAPSED:
        return
    checkpoint = work.out / CHECKPOINT
    kept = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint before it"
    raise UserError(
        f"{work.recipe.pretrain.method} collapsed in epoch {epoch}: all embeddings are alike (spread {value:.3f}, "
        f"below {COLLAPSED}); {kept}; {work.method.advice}"
    )
