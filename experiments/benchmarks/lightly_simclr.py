"""Pairs per second of SimCLR: the recipe of lightly's documentation beside ours, in one interleaved run.

    python experiments/benchmarks/lightly_simclr.py [--rounds 3] [--steps 10] [--warm 4]

Both: ResNet-18, the same batch, picture size and cores, the 2,624 solar cells of the wheel elpv-dataset (CC BY-NC-SA
4.0). lightly as its SimCLR example sets it up: LightlyDataset on the image files, SimCLRTransform, DataLoader with
workers, torchvision's ResNet-18, SimCLRProjectionHead, NTXentLoss, SGD. Ours as a recipe runs it: prepared pictures,
views on the device, the training loop; once in float32 and once in the precision that `auto` takes. A turn of lightly
begins with fresh workers and a few untimed steps, so that batches made during our turn are not counted as free.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import elpv_dataset
import numpy as np
import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import nn

from ssl_defect.artifacts import machine, versions
from ssl_defect.config import ComputeSettings
from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.simclr import Options, SimCLR
from ssl_defect.train.batches import Batches
from ssl_defect.train.device import lay_out, make_fabric, precision_name
from ssl_defect.train.loop import Plan, fit
from ssl_defect.train.optim import make_adamw, warmup_cosine

PICTURES = Path(elpv_dataset.__file__).parent / "data" / "images"


@dataclass
class Turn:
    """One side: a name, and a function that trains for a number of steps and returns the seconds."""

    name: str
    seconds: Callable[[int], float]


def lightly_turn(options: argparse.Namespace) -> Turn:
    transform = SimCLRTransform(input_size=options.size)
    dataset = LightlyDataset(str(PICTURES), transform=transform)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=options.batch, shuffle=True, drop_last=True, num_workers=options.workers
    )
    backbone = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1], nn.Flatten())
    model = nn.Sequential(backbone, SimCLRProjectionHead(512, 512, 128))
    criterion, optimizer = NTXentLoss(), torch.optim.SGD(model.parameters(), lr=0.06)

    def seconds(steps: int) -> float:
        batches, start = iter(loader), 0.0
        for step in range(options.warm + steps):
            if step == options.warm:
                start = time.monotonic()
            one, two = next(batches)[0]
            loss = criterion(model(one), model(two))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.monotonic() - start

    return Turn("lightly", seconds)


def our_turn(options: argparse.Namespace, store: Store, precision: Any, folder: Path) -> Turn:
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", options.size)
    fabric = make_fabric(ComputeSettings(device="cpu", precision=precision, threads=options.threads), encoder)
    lay_out(encoder)
    count = len(store.samples)
    facts = Facts(1, count, options.size, options.batch, 100, count // options.batch)
    method = SimCLR.build(encoder, Options(), facts)
    batches = Batches(store, store.rows("train"), options.batch, 0)
    plan = Plan(10**6, options.steps, warmup_cosine(0.1), save_every=1e9)
    loop = fit(method, batches, make_adamw([(method, 1e-3)], 0.05), plan, fabric, folder / f"{precision}.pt")
    next(loop)
    return Turn(f"ssl-defect, {precision_name(fabric)}", lambda _steps: next(loop).seconds)


def prepare(folder: Path, size: int) -> tuple[Store, float]:
    """The pictures as `prepare` leaves them, and the seconds that decoding them once took."""
    start, names = time.monotonic(), sorted(PICTURES.glob("*.png"))
    pictures = [Image.open(name).convert("L").resize((size, size), Image.Resampling.BOX) for name in names]
    np.save(folder / "images.npy", np.stack([np.asarray(picture)[:, :, None] for picture in pictures]))
    samples = [Sample(name.name, group=i, split="train") for i, name in enumerate(names)]
    return Store(folder, samples, np.load(folder / "images.npy", mmap_mode="r"), None), time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=10, help="timed steps in a turn")
    parser.add_argument("--warm", type=int, default=4, help="untimed steps before them, lightly only")
    parser.add_argument("--batch", type=int, default=64, help="pairs per step")
    parser.add_argument("--size", type=int, default=96, help="side of a view, pixels")
    parser.add_argument("--workers", type=int, default=2, help="workers of lightly's DataLoader")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for every core")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store, preparing = prepare(Path(name), options.size)
        sides = [our_turn(options, store, precision, Path(name)) for precision in ("float32", "auto")]
        sides = [lightly_turn(options), *sides]
        for side in sides[1:]:
            side.seconds(options.steps)
        taken = [[side.seconds(options.steps) for side in sides] for _ in range(options.rounds)]
    rates = {
        side.name: options.steps * options.batch / statistics.median(column)
        for side, column in zip(sides, zip(*taken, strict=True), strict=True)
    }
    about = {"settings": vars(options), "machine": machine(), "versions": versions(), "prepare_seconds": preparing}
    print(json.dumps(about | {"pairs_per_second": rates, "seconds_of_turns": taken}, indent=1))
    print("\n| recipe | pairs/s | times lightly |\n|---|---|---|")
    for side, rate in rates.items():
        print(f"| {side} | {rate:.1f} | {rate / rates['lightly']:.2f} |")


if __name__ == "__main__":
    main()
