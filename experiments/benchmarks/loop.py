"""What the training loop costs beside the bare step, in one interleaved run.

    python experiments/benchmarks/loop.py [--rounds 7] [--steps 6] [--threads 0] [--only resnet18]

Bare step: the same method on ready views: forward, loss, backward, optimizer step. Loop: `fit` with all it does in a
run: gathering the batch from the memory-mapped file, views, seeds, schedule, clipping, logs. The two take turns, a
few steps each, so that what else the machine does meets both; medians over the rounds are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_defect.artifacts import machine, versions
from ssl_defect.config import ComputeSettings
from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts, Method
from ssl_defect.train.batches import Batches
from ssl_defect.train.device import lay_out, make_fabric
from ssl_defect.train.loop import Interval, Plan, fit
from ssl_defect.train.optim import make_adamw, warmup_cosine

CASES = [
    ("resnet18", "simclr", "bfloat16"),
    ("resnet18", "simclr", "float32"),
    ("resnet18", "mae", "bfloat16"),
    ("vit_tiny_patch16_224", "mae", "bfloat16"),
    ("vit_tiny_patch16_224", "simclr", "bfloat16"),
]
IMAGES = 2048


def noise_store(folder: Path, size: int) -> Store:
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 1), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    samples = [Sample(f"{i}.png", group=i // 2, split="train") for i in range(IMAGES)]
    return Store(folder, samples, np.load(folder / "images.npy", mmap_mode="r"), None)


def bare_step(method: Method, batch: dict[str, Any], fabric: Any) -> Callable[[], None]:
    """The step on ready views; it returns when the device has done it."""
    optimizer = make_adamw([(method, 1e-4)], 0.05)
    generator = torch.Generator(fabric.device).manual_seed(0)
    views = method.views(batch | {"generator": generator}, 0.5)

    def step() -> None:
        with fabric.autocast():
            loss = method.losses(views, 0.5)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def time_bare(step: Callable[[], None], steps: int, fabric: Any) -> float:
    start = time.monotonic()
    for _ in range(steps):
        step()
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.monotonic() - start) / steps


def measure(case: tuple[str, str, Any], store: Store, options: argparse.Namespace) -> dict[str, Any]:
    backbone, name, precision = case
    torch.manual_seed(0)
    encoder = build_encoder(backbone, options.size)
    fabric = make_fabric(ComputeSettings(device=options.device, precision=precision, threads=options.threads), encoder)
    lay_out(encoder)
    module = import_module(f"ssl_defect.pretrain.{name}")
    facts = Facts(1, IMAGES, options.size, options.batch, 100, IMAGES // options.batch)
    method = fabric.to_device(module.METHOD.build(encoder, module.Options(), facts)).train()
    batches = Batches(store, store.rows("train"), options.batch, 0, fabric.device)
    plan = Plan((options.rounds + 1) * options.steps, options.steps, warmup_cosine(0.1), save_every=1e9)
    optimizer = make_adamw([(method, 1e-4)], 0.05)
    with tempfile.TemporaryDirectory() as folder:
        loop: Iterator[Interval] = fit(method, batches, optimizer, plan, fabric, Path(folder) / "c.pt")
        next(loop)
        bare = bare_step(method, batches(0), fabric)
        time_bare(bare, options.steps, fabric)
        next(loop)
        pairs = [
            (time_bare(bare, options.steps, fabric), next(loop).seconds / options.steps) for _ in range(options.rounds)
        ]
    bare_seconds, loop_seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "backbone": backbone,
        "method": name,
        "precision": precision,
        "bare_ms": round(bare_seconds * 1e3, 1),
        "loop_ms": round(loop_seconds * 1e3, 1),
        "overhead": round(loop_seconds / bare_seconds - 1, 4),
        "overhead_of_rounds": [round(b / a - 1, 4) for a, b in pairs],
        "images_per_second": round(options.batch / loop_seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side")
    parser.add_argument("--steps", type=int, default=6, help="steps in a turn")
    parser.add_argument("--batch", type=int, default=64, help="pictures per step")
    parser.add_argument("--size", type=int, default=96, help="side of a picture, pixels")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for every core")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", default="", help="measure cases whose name holds this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = noise_store(Path(folder), options.size)
        rows = [measure(case, store, options) for case in CASES if options.only in " ".join(case)]
    print(json.dumps({"settings": vars(options), "machine": machine(), "versions": versions(), "rows": rows}, indent=1))
    print("\n| backbone | method | precision | bare step, ms | loop, ms | overhead | images/s |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['backbone']} | {r['method']} | {r['precision']} | {r['bare_ms']} | {r['loop_ms']} "
            f"| {r['overhead']:+.1%} | {r['images_per_second']} |"
        )


if __name__ == "__main__":
    main()
