"""Our methods beside lightly's own code: the same pictures, backbone, batches, epochs and optimizer; probes over seeds.

    python experiments/beside_lightly.py [--methods simclr,byol] [--seeds 3] [--size 64] [--jobs 2]

lightly's side is made of its transforms, heads and losses as the examples of its documentation do
(benchmarks/lightly_methods.py), in a plain PyTorch loop over the prepared training pictures, grey ones as RGB. Both
sides begin with the same weights of the same timm backbone (MAE of lightly sets its own), in the same precision, and
both get AdamW, warmup, a cosine and clipping as our recipe has them, because the SGD of the examples is set for other
sets. Views, temperatures, heads and momentum are each side's own. Killed and started again, it goes on cell by cell.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import cells
import numpy as np
import torch
from benchmarks.fitting import TRAINED
from benchmarks.lightly_methods import PEERS, transform
from learning import RECIPE, RECIPES, pretrain_and_probe
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ssl_defect.console import say
from ssl_defect.data.store import Store, open_store
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.weights import save_encoder
from ssl_defect.train.device import make_fabric
from ssl_defect.train.optim import make_adamw, warmup_cosine

SIDES = ("lightly", "ours")
PROBES = ("knn", "linear")


class Pictures(Dataset[list[torch.Tensor]]):
    """Prepared pictures of the training split, each through a transform of lightly's."""

    def __init__(self, store: Store, change: Any) -> None:
        self.store, self.rows, self.change = store, store.rows("train"), change

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> list[torch.Tensor]:
        picture = Image.fromarray(self.store.images[self.rows[number]].squeeze())
        views: list[torch.Tensor] = self.change(picture.convert("RGB"))
        return views


def all_jobs(options: argparse.Namespace) -> list[cells.Job]:
    """Both sides of every method, seed by seed."""
    methods = cells.chosen_methods(options, [m for m in PEERS if m in TRAINED])
    jobs = []
    for seed in range(options.seeds):
        for method in methods:
            backbone = options.vit if method == "mae" else options.cnn
            settings = {"method": method, **RECIPE, **RECIPES.get(method, {})}
            recipe = cells.recipe_for(options, backbone, seed, settings, ["compute.precision=float32"])
            for side in SIDES:
                facts = {"method": method, "backbone": backbone, "seed": seed, "side": side}
                jobs.append(cells.Job(f"{method}-{side}-{seed}", recipe, facts))
    return jobs


def work(job: cells.Job, folder: Path) -> dict[str, Any]:
    """Pretrain and probe one side; `folder` is the pretraining's."""
    if job.facts["side"] == "ours":
        return pretrain_and_probe(job, folder)
    found = train_lightly(job, folder)
    return found | cells.probes(folder / "encoder.safetensors", job, folder.parents[1])


def train_lightly(job: cells.Job, folder: Path) -> dict[str, Any]:
    """Train lightly's side and leave `encoder.safetensors`."""
    settings, name = job.recipe.pretrain, job.recipe.pretrain.method
    store = open_store(cells.prepared(folder.parents[1], job.recipe))
    for plant in (random.seed, np.random.seed, torch.manual_seed):
        plant(job.recipe.pretrain_seed)
    encoder = build_encoder(job.recipe.model.backbone, store.images.shape[1])
    fabric = make_fabric(job.recipe.compute, encoder)
    normalize = {"mean": encoder.mean.flatten().tolist(), "std": encoder.std.flatten().tolist()}
    pictures = Pictures(store, transform(name, encoder.image_size, normalize, blur=False))
    loader = DataLoader(pictures, settings.batch_size, shuffle=True, drop_last=True)
    peer = PEERS[name](encoder.body, encoder.width).to(fabric.device).train()
    optimizer = make_adamw([(peer, settings.learning_rate)], settings.weight_decay)
    schedule, steps = warmup_cosine(settings.warmup), settings.epochs * len(loader)
    losses, start = [], time.monotonic()
    for epoch in range(settings.epochs):
        total = 0.0
        for place, views in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * schedule((epoch * len(loader) + place) / steps)
            with fabric.autocast():
                loss = peer([view.to(fabric.device) for view in views], epoch, settings.epochs)
            loss.backward()
            peer.after_backward(epoch)
            nn.utils.clip_grad_norm_([p for p in peer.parameters() if p.grad is not None], settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            total += float(loss.detach())
        losses.append(total / len(loader))
        say(f"lightly, {name}: epoch {epoch + 1}/{settings.epochs}, loss {losses[-1]:.4f}")
    seconds = time.monotonic() - start
    save_encoder(folder / "encoder.safetensors", encoder, {"method": name, "origin": "lightly"})
    return {"losses": losses, "minutes": seconds / 60, "images_per_second": steps * settings.batch_size / seconds}


def summarise(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per method, of the seeds that are finished on both sides."""
    rows = []
    for method in dict.fromkeys(cell["method"] for cell in found.values()):
        of = [cell for cell in found.values() if cell["method"] == method]
        by = {side: {c["seed"]: c for c in of if c["side"] == side and "error" not in c} for side in SIDES}
        row: dict[str, Any] = {"method": method, "seeds": sorted(set(by["lightly"]) & set(by["ours"]))}
        row["errors"] = [f"{cell['side']}, seed {cell['seed']}: {cell['error']}" for cell in of if "error" in cell]
        row |= {side: [by[side][seed] for seed in row["seeds"]] for side in SIDES}
        if row["seeds"]:
            values = {side: {p: [cell[p] for cell in row[side]] for p in PROBES} for side in SIDES}
            row["margins"] = {p: cells.compare(values["ours"][p], values["lightly"][p]) for p in PROBES}
            row["verdict"] = verdict(row)
        rows.append(row)
    return rows


def verdict(row: dict[str, Any]) -> str:
    """What the margins of both probes say."""
    if len(row["seeds"]) < 2:
        return "one seed says nothing"
    margins = row["margins"].values()
    if any(each["margin"] < -each["bound"] for each in margins):
        return "worse"
    return "better" if all(each["outside"] for each in margins) else "not worse"


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """The rows as Markdown."""
    head = ["method", "backbone", "epochs"]
    head += [text for p in ("kNN", "linear") for text in (f"lightly, {p}", f"ours, {p}", "margin")]
    head += ["verdict", "lightly, images/s", "ours, images/s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in (row for row in rows if row["seeds"]):
        values = [f"`{row['method']}`", row["ours"][0]["backbone"], str(len(row["ours"][0]["losses"]))]
        for p in PROBES:
            values += [cells.shown([cell[p] for cell in row[side]]) for side in SIDES]
            values.append(cells.shown_margin(row["margins"][p]))
        rates = [np.mean([cell["images_per_second"] for cell in row[side]]) for side in SIDES]
        lines.append("| " + " | ".join([*values, row["verdict"], *(f"{rate:.0f}" for rate in rates)]) + " |")
    lines += [f"- `{row['method']}`: {'; '.join(row['errors'])}" for row in rows if row["errors"]]
    return [
        *lines,
        "",
        f"{cells.about(options)} Worse: a margin below -2 sqrt(sd_a² + sd_b²) in a probe; better: outside in both. "
        "Images/s: one thread, views and loop included.",
    ]


def main() -> None:
    options = cells.parser(__doc__, "beside_lightly").parse_args()
    jobs = all_jobs(options)
    if options.cell:
        cells.finish(options.out, next(job for job in jobs if job.name == options.cell), work)
        return
    rows = summarise(cells.run(jobs, options))
    cells.write_table(options, "beside_lightly", table(rows, options), rows)


if __name__ == "__main__":
    main()
