"""The pretraining run: the loop over its epochs, and what has to be trained before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lightning_fabric import Fabric

from ssl_defect.artifacts import digest
from ssl_defect.console import say
from ssl_defect.pretrain.health import check_collapse
from ssl_defect.pretrain.watch import Watch
from ssl_defect.pretrain.work import CHECKPOINT, PRELIMINARY, Work
from ssl_defect.train.batches import Batches
from ssl_defect.train.loop import Plan, fit
from ssl_defect.train.optim import make_adamw, warmup_cosine
from ssl_defect.train.seeds import mixed_seed


def train(work: Work, watch: Watch, fabric: Fabric) -> dict[str, Any]:
    """Train to the last epoch.

    Returns:
        "rows": a dict per epoch; "before" and "after": what the probe measured; "warnings": name -> sentence.
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
            watch.open(state, epoch)
            continue
        check_collapse(interval.last, epoch, work)
        rate = settings.learning_rate * plan.schedule((interval.step - 1) / interval.steps)
        watch.epoch(interval, epoch, rate)
    return state


def train_preliminary(work: Work, fabric: Fabric) -> None:
    """Train what the method needs before it can begin, such as a tokenizer, with the same loop and images.

    It learns here alone: afterwards it takes no gradient, and the method's optimizer leaves it out.
    """
    found = work.method.preliminary()
    if found is None:
        return
    module, epochs = found
    module.requires_grad_(True)
    settings, batches = work.recipe.pretrain, make_batches(work, fabric)
    plan = replace(
        make_plan(work, batches.steps_per_epoch, fabric),
        steps=epochs * batches.steps_per_epoch,
        seed=mixed_seed(work.recipe.pretrain_seed, 2),
    )
    optimizer = make_adamw([(module, settings.learning_rate)], settings.weight_decay)
    for interval in fit(module, batches, optimizer, plan, fabric, work.out / PRELIMINARY):
        epoch = interval.step // batches.steps_per_epoch
        if not interval.logs:
            continue
        if fabric.is_global_zero:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in interval.logs.items() if name != "gradient_norm")
            say(f"{settings.method}: {type(module).__name__.lower()}, epoch {epoch}/{epochs}, {shown}")
        if epoch == epochs:
            work.method.check_preliminary(interval.logs)
    module.requires_grad_(False)


def make_batches(work: Work, fabric: Fabric) -> Batches:
    """The run's batches for this process."""
    return Batches(
        work.store,
        work.rows,
        work.batch_size,
        work.recipe.pretrain_seed,
        fabric.device,
        partners=work.method.partners,
        rank=fabric.global_rank,
        processes=fabric.world_size,
    )


def make_plan(work: Work, steps_per_epoch: int, fabric: Fabric) -> Plan:
    """The run's plan: an interval is an epoch."""
    settings, recipe = work.recipe.pretrain, work.recipe
    learned = settings.model_dump(exclude={"keep_every", "probe_every", "snapshots", "tensorboard"})
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
