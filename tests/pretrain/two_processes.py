"""Trains SimCLR for a few steps under however many processes there are; started by test_pretrain_processes.py.

Usage: two_processes.py PREPARED OUT. Views are switched off, and batch statistics as well: they are the only parts
of a step that differ between one process and several.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from striped_parts import SIZE, make_recipe

from ssl_defect.config import ComputeSettings
from ssl_defect.data.store import open_store
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.simclr import Options, SimCLR
from ssl_defect.pretrain.stage import make_facts
from ssl_defect.pretrain.training import Work, make_batches, make_plan
from ssl_defect.train.device import make_fabric
from ssl_defect.train.loop import fit
from ssl_defect.train.optim import make_adamw

STILL = {"crop": (1.0, 1.0), "flips": False, "turns": False, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0}


def main(prepared: Path, out: Path) -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    recipe = make_recipe("simclr", "test_vit", epochs=2)
    store = open_store(prepared)
    torch.manual_seed(0)
    encoder = build_encoder("test_vit", SIZE)
    rows = store.rows("train")
    method = SimCLR.build(encoder, Options(noise=0.0, **STILL), make_facts(recipe, store, len(rows)))
    method.head[1] = torch.nn.Identity()  # type: ignore[operator]
    fabric = make_fabric(ComputeSettings(device="cpu", devices=processes, precision="float32", threads=1), encoder)
    work = Work(recipe, method, store, rows, "", out)
    batches = make_batches(work, fabric)
    optimizer = make_adamw([(method, 1e-3)], 0.05)
    losses = [
        interval.logs["loss"]
        for interval in fit(method, batches, optimizer, make_plan(work, 2, fabric), fabric, out / "c.pt")
        if interval.logs
    ]
    if fabric.is_global_zero:
        save_file(method.state_dict() | {"losses": torch.tensor(losses)}, out / "result.safetensors")
    fabric.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
