"""What the training loop costs in fine-tuning beside the bare step, for every task, in one interleaved run each.

    python experiments/benchmarks/finetuning.py [--rounds 5] [--steps 3] [--threads 0] [--only segmentation]

Bare step: the task on one ready batch, views included; forward, loss, backward, optimizer step. Loop: `fit` as a run
uses it; it gathers the batch, makes the views, seeds, clips, follows the schedule and logs. The two take turns, a few
steps each; medians over the rounds are compared. Views and clipping are timed alone as well. Looks at the validation
images are not part of a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_defect.artifacts import machine, versions
from ssl_defect.config import Recipe
from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.finetune.learner import Learner, rate_of
from ssl_defect.finetune.stage import find_task, make_spec
from ssl_defect.finetune.training import Work, make_batches
from ssl_defect.finetune.views import show
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector
from ssl_defect.train.device import lay_out, make_fabric, precision_name
from ssl_defect.train.loop import Plan, fit

IMAGES = 512
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": ("classification", {}),
    "regression": ("regression", {"target": "area"}),
    **{f"segmentation, {d}": ("segmentation", {"decoder": d}) for d in ("unet", "fcn", "fpn", "deeplabv3plus")},
    **{
        f"detection, {name}": ("detection", {"architecture": name})
        for name in ("faster_rcnn", "ssd", "retinanet", "fcos", "yolox")
    },
    "instance": ("instance", {}),
}


def blobs(folder: Path, size: int) -> Store:
    """Noise; every other picture has a bright square and its mask."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 180, (IMAGES, size, size, 1), dtype=np.uint8)
    masks = np.zeros((IMAGES, size, size), np.uint8)
    masks[1::2, size // 4 : size // 2, size // 4 : size // 2] = 1
    images[masks > 0] = 230
    np.save(folder / "images.npy", images)
    np.save(folder / "masks.npy", masks)
    samples = [
        Sample(f"{i}.png", label=i % 2, defect="spot" if i % 2 else "good", group=i, split="train", area=i % 2 / 16)
        for i in range(IMAGES)
    ]
    return Store(folder, samples, *(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "masks")))


def build(case: str, store: Store, options: argparse.Namespace, folder: Path) -> tuple[Work, Any]:
    """The work of fine-tuning a case, and where it runs."""
    task, settings = CASES[case]
    recipe = Recipe.model_validate(
        {
            "name": "benchmark",
            "data": {"source": "synthetic", "root": "nowhere", "image_size": options.size},
            "model": {"backbone": options.backbone},
            "finetune": {"task": task, "options": settings, "batch_size": options.batch},
            "compute": {"threads": options.threads, "precision": options.precision, "device": "cpu"},
        }
    )
    kind, chosen = find_task(recipe)
    torch.manual_seed(0)
    encoder = build_encoder(options.backbone, options.size)
    detector = Detector(encoder, make_spec(recipe, store, kind, chosen))
    module = kind(detector, chosen, store)
    fabric = make_fabric(recipe.compute, lay_out(module))
    (folder / "encoder").write_bytes(b"")
    rows = np.arange(IMAGES, dtype=np.int64)
    return Work(recipe, store, module.train(), rows, folder / "encoder", {}, folder), fabric


def measure(case: str, store: Store, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step on both sides, and of the terms."""
    found: dict[str, list[float]] = {name: [] for name in ("bare", "views", "clipping", "loop")}
    with tempfile.TemporaryDirectory() as name:
        work, fabric = build(case, store, options, Path(name))
        settings = work.recipe.finetune
        learner, bare = Learner(work.task, settings), Learner(work.task, settings)
        plan = Plan((options.rounds + 1) * options.steps, options.steps, rate_of(settings), save_every=1e9)
        loop = fit(learner, make_batches(work, fabric), learner.optimizer, plan, fabric, Path(name) / "checkpoint.pt")
        next(loop)
        draw = torch.Generator().manual_seed(0)
        batch = make_batches(work, fabric)(0) | {"generator": draw}
        parameters = [p for p in work.task.parameters() if p.requires_grad]

        def step() -> None:
            with fabric.autocast():
                loss = bare(batch, 0.5)["loss"]
            loss.backward()
            bare.optimizer.step()
            bare.optimizer.zero_grad()

        for interval in loop:
            found["loop"].append(interval.seconds / options.steps)
            found["bare"].append(timed(step, options.steps))
            found["views"].append(
                timed(lambda: show(batch["image"], batch["mask"], work.task.views, draw), options.steps)
            )
            found["clipping"].append(clipping(parameters, options.steps))
        middle = {term: 1e3 * statistics.median(values[1:]) for term, values in found.items()}
    return {
        "case": case,
        "precision": precision_name(fabric),
        **{f"{term}_ms": round(value, 1) for term, value in middle.items()},
        "overhead": round(middle["loop"] / middle["bare"] - 1, 4),
        "images_per_second": round(1e3 * options.batch / middle["loop"], 1),
    }


def timed(work: Callable[[], Any], steps: int) -> float:
    """Seconds per call."""
    start = time.monotonic()
    for _ in range(steps):
        work()
    return (time.monotonic() - start) / steps


def clipping(parameters: list[torch.nn.Parameter], steps: int) -> float:
    """Seconds of clipping gradients that are as large as the parameters."""
    for parameter in parameters:
        parameter.grad = parameter.detach().clone()
    found = timed(lambda: torch.nn.utils.clip_grad_norm_(parameters, 1e-3), steps)
    for parameter in parameters:
        parameter.grad = None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=3, help="steps in a turn")
    parser.add_argument("--batch", type=int, default=16, help="pictures per step")
    parser.add_argument("--size", type=int, default=128, help="side of a picture, pixels")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for every core")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    print("| task | precision | bare step, ms | views, ms | clipping, ms | loop, ms | overhead | images/s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = blobs(Path(folder), options.size)
        for case in (case for case in CASES if options.only in case):
            row = measure(case, store, options)
            rows.append(row)
            terms = " | ".join(str(row[f"{term}_ms"]) for term in ("bare", "views", "clipping", "loop"))
            cost = f"{row['overhead']:+.1%} | {row['images_per_second']}"
            print(f"| {case} | {row['precision']} | {terms} | {cost} |", flush=True)
    print(
        "\n"
        + json.dumps({"settings": vars(options), "machine": machine(), "versions": versions(), "rows": rows}, indent=1)
    )


if __name__ == "__main__":
    main()
