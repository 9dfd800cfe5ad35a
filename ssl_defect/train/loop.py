"""The one training loop, for pretraining and fine-tuning alike.

It is a generator: the caller iterates over intervals, probes or validates between them, and stops by `break`. It
knows of a module only `forward(batch, progress) -> {"loss": scalar, ...scalar logs}` and an optional
`after_step(progress)`. Progress in [0, 1] is the only clock.

A step is a pure function of the weights, the optimizer state and (seed, step): order, views and dropout all draw
from seeds made of these two. So a run that is killed and started again ends with the same weights, bit for bit
(on a CPU, with the same number of threads).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ssl_defect.errors import UserError
from ssl_defect.train.checkpoint import load_checkpoint, save_checkpoint
from ssl_defect.train.meter import Meter
from ssl_defect.train.plan import Batch, Interval, Plan
from ssl_defect.train.seeds import mixed_seed

__all__ = ["Batch", "Interval", "Plan", "fit"]


def fit(
    module: nn.Module,
    batches: Callable[[int], Batch],
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    fabric: Fabric,
    checkpoint: Path,
) -> Iterator[Interval]:
    """Train `module`, from the checkpoint where there is one.

    The first yield comes before any step: `step` is 0 in a fresh run, or where a killed run stood, with its `state`.

    Args:
        batches: the batch of a step, a pure function of the step; holds "image" with the batch first. The loop adds
            "generator", seeded for this step and process, on the device.
        optimizer: its groups hold their peak learning rate as `peak`.

    Raises:
        UserError: the loss is not finite, or the checkpoint was made with other settings.
    """
    train_step = _train_step(module, optimizer, plan, fabric)
    here = _resume(module, optimizer, plan, checkpoint)
    yield here
    module.train()
    meter, saved = Meter(), time.monotonic()
    for step in range(here.step, plan.steps):
        batch = batches(step)
        meter.add(train_step(step, batch), len(batch["image"]) * fabric.world_size)
        if (step + 1) % plan.interval and step + 1 < plan.steps:
            continue
        means, last = meter.means(fabric)
        _check_finite(meter, step + 1, here.step, plan, checkpoint)
        seconds = meter.seconds()
        here = Interval(step + 1, plan.steps, means, seconds, meter.images / seconds, here.state, last)
        yield here
        module.train()
        if step + 1 == plan.steps or time.monotonic() - saved >= plan.save_every:
            _save(module, optimizer, plan, fabric, checkpoint, here)
            saved = time.monotonic()
        meter = Meter()


def _train_step(
    module: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, fabric: Fabric
) -> Callable[[int, Batch], dict[str, Tensor]]:
    wrapped, stepper = fabric.setup(module, optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    generator = torch.Generator(fabric.device)
    after_step = getattr(module, "after_step", None)

    def train_step(step: int, batch: Batch) -> dict[str, Tensor]:
        progress = step / plan.steps
        seed = mixed_seed(plan.seed, step, fabric.global_rank)
        torch.manual_seed(seed)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * plan.schedule(progress)
        output = wrapped(batch | {"generator": generator.manual_seed(seed)}, progress)
        fabric.backward(output["loss"])
        norm = nn.utils.clip_grad_norm_(parameters, plan.clip_norm)
        stepper.step()
        stepper.zero_grad()
        if after_step is not None:
            after_step(progress)
        return {**{key: value.detach() for key, value in output.items()}, "gradient_norm": norm}

    return train_step


def _check_finite(meter: Meter, step: int, before: int, plan: Plan, checkpoint: Path) -> None:
    bad = meter.first_bad()
    if bad is None:
        return
    kept = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint before it"
    number = -(-step // plan.interval)
    raise UserError(
        f"training broke down: the loss or its gradient is not finite at step {before + bad + 1} of {plan.steps} "
        f"({plan.unit} {number}); {kept}; try a learning_rate ten times lower, or compute.precision=float32"
    )


def _resume(module: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, checkpoint: Path) -> Interval:
    content = load_checkpoint(checkpoint)
    if content is None:
        return Interval(0, plan.steps)
    if content["identity"] != plan.identity or content["steps"] != plan.steps:
        raise UserError(
            f"{checkpoint}: made with other settings; delete {checkpoint.parent} to start anew, or use another folder"
        )
    module.load_state_dict(content["module"])
    optimizer.load_state_dict(content["optimizer"])
    return Interval(content["step"], plan.steps, state=content["state"])


def _save(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    fabric: Fabric,
    checkpoint: Path,
    here: Interval,
) -> None:
    if not fabric.is_global_zero:
        return
    content = {
        "step": here.step,
        "steps": plan.steps,
        "identity": plan.identity,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "state": here.state,
    }
    save_checkpoint(checkpoint, content)
