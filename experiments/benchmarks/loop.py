"""What the training loop costs beside the bare step, for every method, in one interleaved run each.

    python experiments/benchmarks/loop.py [--rounds 5] [--steps 2] [--threads 0] [--only simclr]

Bare step: the same method on ready views: forward, loss, backward, optimizer step and what the method does after it.
Loop: `fit` with all it does in a run: gathering the batch from the memory-mapped file, views, seeds, schedule,
clipping, logs. The two take turns, a few steps each, so that what else the machine does meets both; medians over the
rounds are compared. Views, gathering and clipping are timed alone as well, so that one can see which of them limits;
gathering runs in a thread of its own, so it costs only where it takes a core away. Memory: what the process holds
after each turn of the loop; its growth is counted from the second turn on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fitting import TRAINED, backbone_for
from lightning_fabric import Fabric

from ssl_defect.artifacts import machine, versions
from ssl_defect.config import ComputeSettings
from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain import METHODS
from ssl_defect.pretrain.base import Facts, Method
from ssl_defect.train.batches import Batches
from ssl_defect.train.device import lay_out, make_fabric, precision_name
from ssl_defect.train.loop import Plan, fit
from ssl_defect.train.optim import make_adamw, warmup_cosine

IMAGES = 2048
TERMS = ("bare", "views", "gathering", "clipping", "loop")


@dataclass(frozen=True)
class Case:
    """One method, ready to be measured."""

    method: Method
    fabric: Fabric
    batches: Batches
    steps: int

    def timed(self, work: Callable[[int], Any]) -> float:
        """Seconds per call of `work(number)`, when the device has done it."""
        start = time.monotonic()
        for number in range(self.steps):
            work(number)
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.monotonic() - start) / self.steps

    def gathering(self) -> float:
        return self.timed(lambda number: self.batches.gather(self.batches.rows_of(number)))

    def viewing(self, batch: dict[str, Any]) -> float:
        with self.fabric.autocast():
            return self.timed(lambda _: self.method.views(batch, 0.5))

    def clipping(self) -> float:
        """Of gradients that are as large as the parameters; the norm is taken and every gradient is scaled."""
        parameters = [p for p in self.method.parameters() if p.requires_grad]
        for parameter in parameters:
            parameter.grad = parameter.detach().clone()
        found = self.timed(lambda _: torch.nn.utils.clip_grad_norm_(parameters, 1e-3))
        for parameter in parameters:
            parameter.grad = None
        return found

    def bare(self, views: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, progress: float) -> float:
        after_step = getattr(self.method, "after_step", lambda _: None)

        def step(_: int) -> None:
            with self.fabric.autocast():
                loss = self.method.losses(views, progress)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            after_step(progress)

        return self.timed(step)


def noise_store(folder: Path, size: int) -> Store:
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 1), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    samples = [Sample(f"{i}.png", group=i // 2, split="train") for i in range(IMAGES)]
    return Store(folder, samples, np.load(folder / "images.npy", mmap_mode="r"), None)


def held(device: torch.device) -> float:
    """Memory that the process holds, or that was the most on a CUDA device, in MiB; 0 where that cannot be read."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def build(name: str, backbone: str, store: Store, options: argparse.Namespace) -> Case:
    torch.manual_seed(0)
    encoder = build_encoder(backbone, options.size)
    compute = ComputeSettings(device=options.device, precision=options.precision, threads=options.threads)
    fabric = make_fabric(compute, encoder)
    lay_out(encoder)
    module = import_module(METHODS[name][0])
    facts = Facts(1, IMAGES, options.size, options.batch, 100, IMAGES // options.batch)
    method = fabric.to_device(module.METHOD.build(encoder, module.Options(), facts)).train()
    batches = Batches(store, store.rows("train"), options.batch, 0, fabric.device, partners=method.partners)
    return Case(method, fabric, batches, options.steps)


def turns(case: Case, options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds per step of each side, and MiB held after each turn of the loop."""
    plan = Plan((options.rounds + 1) * options.steps, options.steps, warmup_cosine(0.1), save_every=1e9)
    loop = fit(case.method, case.batches, make_adamw([(case.method, 1e-4)], 0.05), plan, case.fabric, folder / "c.pt")
    next(loop)
    batch: dict[str, Any] = dict(case.batches(0))
    batch["generator"] = torch.Generator(case.fabric.device).manual_seed(0)
    optimizer = make_adamw([(case.method, 1e-4)], 0.05)
    found: dict[str, list[float]] = {name: [] for name in ("loop", "bare", "views", "gathering", "clipping", "memory")}
    with case.fabric.autocast():
        views = case.method.views(batch, 0.5)
    for interval in loop:
        found["loop"].append(interval.seconds / options.steps)
        found["memory"].append(held(case.fabric.device))
        found["bare"].append(case.bare(views, optimizer, interval.step / plan.steps))
        found["views"].append(case.viewing(batch))
        found["gathering"].append(case.gathering())
        found["clipping"].append(case.clipping())
    for term in TERMS:
        del found[term][0]  # the first turn warms up
    return found


def measure(name: str, store: Store, options: argparse.Namespace) -> dict[str, Any]:
    backbone = options.backbone or backbone_for(name, options.size)
    case = build(name, backbone, store, options)
    with tempfile.TemporaryDirectory() as folder:
        found = turns(case, options, Path(folder))
    middle = {term: statistics.median(values) for term, values in found.items()}
    later = found["memory"][1:]
    return {
        "method": name,
        "backbone": backbone,
        "precision": precision_name(case.fabric),
        **{f"{term}_ms": round(middle[term] * 1e3, 1) for term in TERMS},
        "overhead": round(middle["loop"] / middle["bare"] - 1, 4),
        "overhead_of_rounds": [round(b / a - 1, 4) for a, b in zip(found["bare"], found["loop"], strict=True)],
        "images_per_second": round(options.batch / middle["loop"], 1),
        "growth_mib": round(max(later) - later[0], 1),
        "memory_mib": [round(value, 1) for value in found["memory"]],
    }


def shown(row: dict[str, Any]) -> str:
    """The row as Markdown."""
    terms = " | ".join(f"{row[f'{term}_ms']}" for term in TERMS)
    views = f"{row['views_ms'] / row['bare_ms']:.1%}"
    cost = f"{row['overhead']:+.1%} | {views} | {row['images_per_second']} | {row['growth_mib']:+.0f}"
    return f"| `{row['method']}` | {row['backbone']} | {row['precision']} | {terms} | {cost} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=2, help="steps in a turn")
    parser.add_argument("--batch", type=int, default=64, help="pictures per step")
    parser.add_argument("--size", type=int, default=96, help="side of a picture, pixels")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for every core")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--backbone", default="", help="for all methods; left out: ResNet-18, a tiny ViT where need be")
    parser.add_argument("--only", default="", help="names with commas between; all where left out")
    options = parser.parse_args()
    print("| method | backbone | precision | bare step, ms | views, ms | gathering, ms | clipping, ms ", end="")
    print("| loop, ms | overhead |", end="")
    print(" views of bare | images/s | growth, MiB |\n" + "|---" * 12 + "|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = noise_store(Path(folder), options.size)
        for name in [name for name in options.only.split(",") if name] or TRAINED:
            rows.append(measure(name, store, options))
            print(shown(rows[-1]), flush=True)
    about = {"settings": vars(options), "machine": machine(), "versions": versions(), "rows": rows}
    print("\n" + json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
