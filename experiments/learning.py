"""Does every pretraining method learn? Probes of its encoder beside the same backbone untrained, over seeds.

    python experiments/learning.py [--methods simclr,mae] [--seeds 3] [--size 64] [--jobs 2] [--out reports/learning]

Every method, on the training images of one real set (by default the solar cells of the wheel elpv-dataset), under the
recipes below; then a kNN and a linear probe on the TEST images, both with the labels of the training images. The
untrained backbone has the very weights that the method of the same seed began with. A method whose margin is not
outside the seeds' spread in both probes is drawn: loss and probe over the epochs. Killed and started again, it goes on.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import fmean, median
from typing import Any

import cells
from benchmarks.fitting import TRAINED, backbone_for
from matplotlib import rc_context
from matplotlib.figure import Figure

from ssl_defect.artifacts import read_json
from ssl_defect.pretrain.stage import pretrain

BOTH = {"mae"}  # methods that are tried on both; the others on the CNN where they fit it, else on the ViT
RECIPE = {"epochs": 16, "batch_size": 64, "learning_rate": 1e-3, "probe_every": 4, "snapshots": 0}
SHORT = {"options.momentum": 0.97}  # of a momentum encoder, in a run of some 300 steps
ONE_VIEW = {"epochs": 32}  # one picture goes through the encoder where others send two
RECIPES: dict[str, dict[str, Any]] = {  # what a method needs otherwise, so that all take about as long
    "moco_v2": SHORT,
    "moco_v3": SHORT,
    "densecl": SHORT,
    "byol": SHORT,
    "dino": SHORT | {"epochs": 12},
    "swav": {"epochs": 12},
    "rotation": {"epochs": 8},  # four turns of each picture
    "mae": ONE_VIEW,
    "simmim": ONE_VIEW,
    "beit": ONE_VIEW,
    "inpainting": ONE_VIEW,
    "colorization": ONE_VIEW,
    "jigsaw": ONE_VIEW,
    "context": ONE_VIEW,
}


def backbones(method: str, options: argparse.Namespace) -> list[str]:
    """The backbones that a method is tried on."""
    both = [options.cnn, options.vit]
    return both if method in BOTH else [backbone_for(method, options.size, *both)]


def all_jobs(options: argparse.Namespace) -> list[cells.Job]:
    """The untrained backbones and then every method, seed by seed."""
    methods = cells.chosen_methods(options, TRAINED)
    pairs = [(method, backbone) for method in methods for backbone in backbones(method, options)]
    pairs = [*(("none", b) for b in (options.cnn, options.vit) if b in {b for _, b in pairs}), *pairs]
    jobs = []
    for seed in range(options.seeds):
        for method, backbone in pairs:
            settings = {} if method == "none" else RECIPE | RECIPES.get(method, {})
            recipe = cells.recipe_for(options, backbone, seed, settings | {"method": method})
            facts = {"method": method, "backbone": backbone, "seed": seed}
            jobs.append(cells.Job(f"{method}-{backbone}-{seed}", recipe, facts))
    return jobs


def work(job: cells.Job, folder: Path) -> dict[str, Any]:
    """What a cell is about; `folder` is the pretraining's."""
    if job.recipe.pretrain.method == "none":
        return cells.probes(None, job, folder.parents[1]) | {"minutes": 0.0}
    return pretrain_and_probe(job, folder)


def pretrain_and_probe(job: cells.Job, folder: Path) -> dict[str, Any]:
    """Pretrain in `folder`, going on from a checkpoint if there is one, and probe the encoder."""
    out = folder.parents[1]
    pretrain(job.recipe, cells.prepared(out, job.recipe), folder)
    summary, rows = read_json(folder / "pretrain.json"), history(folder)
    return cells.probes(folder / "encoder.safetensors", job, out) | {
        "minutes": summary["training_seconds"] / 60,
        "images_per_second": median(row["images_per_second"] for row in rows),
        "precision": summary["precision"],
        "chance": summary.get("chance"),
        "losses": [row["loss"] for row in rows],
    }


def history(folder: Path) -> list[dict[str, float]]:
    """The rows of `history.csv`, as far as it goes; cells that were not measured are left out."""
    path = folder / "history.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def summarise(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per method and backbone, of the seeds that are finished on both sides."""
    by: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for cell in found.values():
        by.setdefault((cell["method"], cell["backbone"]), {})[cell["seed"]] = cell
    rows = []
    for (method, backbone), seeds in by.items():
        row: dict[str, Any] = {"method": method, "backbone": backbone}
        row["errors"] = [f"seed {seed}: {cell['error']}" for seed, cell in seeds.items() if "error" in cell]
        good = {seed: cell for seed, cell in seeds.items() if "error" not in cell}
        untrained = by.get(("none", backbone), {})
        paired = sorted(set(good) & set(untrained))
        row["seeds"] = paired
        for probe in ("knn", "linear") if paired else ():
            row[probe] = [good[seed][probe] for seed in paired]
            row[f"{probe}_margin"] = cells.compare(row[probe], [untrained[seed][probe] for seed in paired])
        row["cells"] = [good[seed] for seed in paired]
        row["learns"] = bool(paired) and all(_better(row[f"{p}_margin"]) for p in ("knn", "linear"))
        rows.append(row)
    return rows


def _better(compared: dict[str, Any]) -> bool:
    return bool(compared["outside"] and compared["margin"] > 0)


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """The rows as Markdown."""
    head = ["method", "backbone", "kNN AUROC", "margin", "linear AUROC", "margin", "learns"]
    head += ["epochs", "min", "images/s", "loss, first to last epoch (chance)"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        lines.append(f"| `{row['method']}` | {row['backbone']} | " + " | ".join(_columns(row)) + " |")
    lines += [f"- `{row['method']}`, {row['backbone']}: {'; '.join(row['errors'])}" for row in rows if row["errors"]]
    return [*lines, "", f"{cells.about(options)} Minutes and images/s: one thread."]


def _columns(row: dict[str, Any]) -> list[str]:
    if not row["seeds"]:
        return ["-"] * 9
    if row["method"] == "none":
        return [cells.shown(row["knn"]), "", cells.shown(row["linear"]), *[""] * 6]
    few = row["cells"]
    probed = [
        f(row[key]) for p in ("knn", "linear") for f, key in ((cells.shown, p), (cells.shown_margin, f"{p}_margin"))
    ]
    first, last = (fmean(cell["losses"][place] for cell in few) for place in (0, -1))
    known = few[0]["chance"]
    loss = f"{first:.3f} to {last:.3f}" + ("" if known is None else f" ({known:.3f})")
    cost = [median(cell[name] for cell in few) for name in ("minutes", "images_per_second")]
    verdict = ("yes" if row["learns"] else "no") + (f" ({len(few)} seeds)" if row["errors"] else "")
    return [*probed, verdict, str(len(few[0]["losses"])), f"{cost[0]:.1f}", f"{cost[1]:.0f}", loss]


def draw_curves(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Loss and online probe over the epochs, a line per seed, of the methods that do not learn: one picture."""
    figure = Figure(figsize=(7, 1.7 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 2, squeeze=False)
    for row, axes in zip(rows, grid, strict=True):
        for seed in range(options.seeds):
            found = history(options.out / f"{row['method']}-{row['backbone']}-{seed}" / "work")
            for axis, name in zip(axes, ("loss", "probe"), strict=True):
                points = [(r["epoch"], r[name]) for r in found if name in r]
                axis.plot(*zip(*points, strict=True), label=f"seed {seed}") if points else None
        axes[0].set_title(f"{row['method']}, {row['backbone']}: loss", fontsize=9)
        axes[1].set_title("kNN AUROC on validation", fontsize=9)
    for axis in grid[-1]:
        axis.set_xlabel("epoch")
    grid[0, 0].legend(frameon=False, fontsize=8)
    path: Path = options.out / "curves.svg"
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves"}):
        figure.savefig(path, metadata={"Date": None})
    return path.name


def main() -> None:
    options = cells.parser(__doc__, "learning").parse_args()
    jobs = all_jobs(options)
    if options.cell:
        cells.finish(options.out, next(job for job in jobs if job.name == options.cell), work)
        return
    rows = summarise(cells.run(jobs, options))
    lines = table(rows, options)
    failing = [row for row in rows if row["method"] != "none" and not row["learns"]]
    if failing:
        lines += ["", f"Curves of the rows with a no: {draw_curves(failing, options)}"]
    cells.write_table(options, "learning", lines, rows)


if __name__ == "__main__":
    main()
