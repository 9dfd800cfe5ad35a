"""Trains methods for two steps under however many processes there are; started by test_pretrain_processes.py.

Usage: two_processes.py PREPARED OUT METHOD...

Each process makes the views of the whole batch and takes its share of them, so that all see the same. Batch
statistics are switched off: they are the only part of a step that is meant to differ between processes.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from contract_options import OPTIONS
from safetensors.torch import save_file
from striped_parts import SIZE
from torch import Tensor, nn

from ssl_defect.config import ComputeSettings
from ssl_defect.data.store import Store, open_store
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain import METHODS
from ssl_defect.pretrain.base import Facts, Method
from ssl_defect.train.batches import Batches
from ssl_defect.train.device import make_fabric

BATCH = 16


class Step(nn.Module):
    """The part of a step that is shared out."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        return self.method.losses(views, progress)


def without_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            keeps = {key: getattr(child, key) for key in ("drop", "act") if hasattr(child, key)}
            setattr(module, name, nn.Sequential(*keeps.values()) if keeps else nn.Identity())
        else:
            without_batch_norm(child)


def build(name: str, store: Store) -> Method:
    module = import_module(METHODS[name][0])
    for backbone in ("test_vit", "test_resnet"):
        torch.manual_seed(0)
        rows = len(store.rows("train"))
        facts = Facts(store.images.shape[3], rows, SIZE, BATCH, 10, rows // BATCH)
        try:
            method: Method = module.METHOD.build(build_encoder(backbone, SIZE), module.Options(**OPTIONS[name]), facts)
        except UserError:
            continue
        without_batch_norm(method)
        return method
    raise AssertionError(f"{name} fits no test backbone")


def train(name: str, store: Store, fabric: Any) -> dict[str, Tensor]:
    """The losses of two steps, and what the method is after them."""
    method = build(name, store)
    step = Step(method)
    learning = [parameter for parameter in step.parameters() if parameter.requires_grad]
    wrapped, optimizer = fabric.setup(step, torch.optim.SGD(learning, lr=0.05))
    batches = Batches(store, store.rows("train"), BATCH, 0, partners=method.partners)
    losses = []
    for number in range(2):
        torch.manual_seed(number)
        progress = number / 2
        views = method.views(batches(number) | {"generator": torch.Generator().manual_seed(number)}, progress)
        share = {key: value[fabric.global_rank :: fabric.world_size] for key, value in views.items()}
        loss = wrapped(share, progress)["loss"]
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if hasattr(method, "after_step"):
            method.after_step(progress)
        losses.append(fabric.all_reduce(loss.detach(), reduce_op="mean"))
    return {f"{name}/losses": torch.stack(losses)} | {f"{name}/{k}": v for k, v in method.state_dict().items()}


def main(prepared: Path, out: Path, names: list[str]) -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    store = open_store(prepared)
    compute = ComputeSettings(device="cpu", devices=processes, precision="float32", threads=1)
    fabric = make_fabric(compute, nn.Identity())
    result: dict[str, Tensor] = {}
    for name in names:
        result |= train(name, store, fabric)
    if fabric.is_global_zero:
        save_file({key: value.contiguous().clone() for key, value in result.items()}, out / "result.safetensors")
    fabric.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
