"""Pictures per second of six methods: the recipe of lightly's documentation beside ours, in one interleaved run each.

    python experiments/benchmarks/lightly_recipes.py [--only simclr,dino] [--rounds 3] [--steps 6] [--warm 4]

Both: the same batch, picture size and cores, a ResNet-18 (MAE: a ViT-tiny of 16-pixel patches), the 2,624 solar cells
of the wheel elpv-dataset (CC BY-NC-SA 4.0). lightly as its examples set it up: LightlyDataset on the image files, its
transform with its own defaults, DataLoader with workers, torchvision's ResNet-18, its heads and loss, SGD. Ours as a
recipe runs it: prepared pictures, views on the device, the training loop; once in float32 and once in the precision
that `auto` takes. A turn of lightly begins with fresh workers and a few untimed steps, so that batches made during our
turns are not counted as free. The two make the views that they recommend, which differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import elpv_dataset
import numpy as np
import torch
import torchvision
from fitting import CNN, TRAINED, VIT
from lightly.data import LightlyDataset
from lightly_methods import PEERS, transform
from PIL import Image
from torch import nn

from ssl_defect.artifacts import machine, versions
from ssl_defect.config import ComputeSettings
from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain import METHODS
from ssl_defect.pretrain.base import Facts
from ssl_defect.train.batches import Batches
from ssl_defect.train.device import lay_out, make_fabric, precision_name
from ssl_defect.train.loop import Plan, fit
from ssl_defect.train.optim import make_adamw, warmup_cosine

PICTURES = Path(elpv_dataset.__file__).parent / "data" / "images"

Turn = Callable[[int], float]  # trains for a number of steps, gives the seconds


def lightly_turn(name: str, options: argparse.Namespace) -> Turn:
    dataset = LightlyDataset(str(PICTURES), transform=transform(name, options.size))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=options.batch, shuffle=True, drop_last=True, num_workers=options.workers
    )
    torch.manual_seed(0)
    if name == "mae":
        encoder = build_encoder(VIT, options.size)
        backbone, width = encoder.body, encoder.width
    else:
        backbone, width = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1], nn.Flatten()), 512
    model = PEERS[name](backbone, width).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)

    def seconds(steps: int) -> float:
        batches, start = iter(loader), 0.0
        for step in range(options.warm + steps):
            if step == options.warm:
                start = time.monotonic()
            loss = model(next(batches)[0], 1, 10)
            loss.backward()
            model.after_backward(1)
            optimizer.step()
            optimizer.zero_grad()
        return time.monotonic() - start

    return seconds


def our_turn(name: str, options: argparse.Namespace, store: Store, folder: Path) -> tuple[str, Turn]:
    torch.manual_seed(0)
    encoder = build_encoder(VIT if name == "mae" else CNN, options.size)
    compute = ComputeSettings(device="cpu", precision=options.precision, threads=options.threads)
    fabric = make_fabric(compute, encoder)
    lay_out(encoder)
    count, module = len(store.samples), import_module(METHODS[name][0])
    facts = Facts(1, count, options.size, options.batch, 100, count // options.batch)
    method = module.METHOD.build(encoder, module.Options(), facts)
    batches = Batches(store, store.rows("train"), options.batch, 0, partners=method.partners)
    plan = Plan(2 * options.steps * (options.rounds + 1), options.steps, warmup_cosine(0.1), save_every=1e9)
    loop = fit(method, batches, make_adamw([(method, 1e-3)], 0.05), plan, fabric, folder / f"{name}.pt")
    next(loop)
    return f"ssl-defect, {precision_name(fabric)}", lambda _: next(loop).seconds


def prepare(folder: Path, size: int, images: int) -> tuple[Store, float]:
    """The pictures as `prepare` leaves them, and the seconds that decoding them once took."""
    start, names = time.monotonic(), sorted(PICTURES.glob("*.png"))[:images]
    pictures = [Image.open(name).convert("L").resize((size, size), Image.Resampling.BOX) for name in names]
    np.save(folder / "images.npy", np.stack([np.asarray(picture)[:, :, None] for picture in pictures]))
    samples = [Sample(name.name, group=i, split="train") for i, name in enumerate(names)]
    return Store(folder, samples, np.load(folder / "images.npy", mmap_mode="r"), None), time.monotonic() - start


def measure(name: str, options: argparse.Namespace, store: Store) -> dict[str, Any]:
    """Turns of lightly and of ours in each precision; medians over the rounds."""
    sides = {"lightly": lightly_turn(name, options)}
    with tempfile.TemporaryDirectory() as folder:
        for precision in dict.fromkeys(("float32", options.precision)):
            ours = argparse.Namespace(**vars(options) | {"precision": precision})
            label, turn = our_turn(name, ours, store, Path(folder))
            turn(options.steps)  # warms up
            sides.setdefault(label, turn)
        taken = [[turn(options.steps) for turn in sides.values()] for _ in range(options.rounds)]
    rates = [options.steps * options.batch / statistics.median(column) for column in zip(*taken, strict=True)]
    return {"method": name, "pictures_per_second": dict(zip(sides, rates, strict=True)), "seconds_of_turns": taken}


def shown(row: dict[str, Any]) -> str:
    """The row as Markdown, a line per side."""
    rates: dict[str, float] = row["pictures_per_second"]
    return "\n".join(
        f"| `{row['method']}` | {side} | {rate:.1f} | {rate / rates['lightly']:.2f} |" for side, rate in rates.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names with commas between; all where left out")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=6, help="timed steps in a turn")
    parser.add_argument("--warm", type=int, default=4, help="untimed steps before them, lightly only")
    parser.add_argument("--batch", type=int, default=64, help="pictures per step")
    parser.add_argument("--size", type=int, default=96, help="side of a picture, pixels")
    parser.add_argument("--images", type=int, default=2624, help="pictures that ours prepares; lightly reads all")
    parser.add_argument("--workers", type=int, default=2, help="workers of lightly's DataLoader")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for every core")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"], help="beside float32")
    options = parser.parse_args()
    print("| method | recipe | pictures/s | times lightly |\n|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store, preparing = prepare(Path(folder), options.size, options.images)
        for name in [name for name in options.only.split(",") if name] or [n for n in PEERS if n in TRAINED]:
            rows.append(measure(name, options, store))
            print(shown(rows[-1]), flush=True)
    about = {"settings": vars(options), "machine": machine(), "versions": versions(), "prepare_seconds": preparing}
    print("\n" + json.dumps(about | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
