"""What are near-copy groups worth? Each method with every use that it can make of them, over seeds.

    python experiments/groups.py experiments/magnetic_tile.yaml --methods simclr,moco_v2,byol --seeds 3 \\
        --set data.root=../shared/data/magnetic_tile [--jobs 2] [--finetune] [--out reports/groups]

A cell is a method, a value of its option `groups` and a seed: it pretrains, and probes the encoder on the TEST images
by kNN and by a linear probe, both with the labels of the training images. The split is by group, so no near-copy of a
test image has a label. With `--finetune` the recipe's task is trained from each encoder as well. Killed and started
again, it goes on; cells work side by side, one thread each.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import fmean, median
from typing import Any, get_args

import cells
from learning import history

from ssl_defect.artifacts import digest, machine, read_json
from ssl_defect.config import load_recipe
from ssl_defect.data.store import open_store
from ssl_defect.errors import UserError
from ssl_defect.evaluate.stage import evaluate
from ssl_defect.finetune.stage import finetune
from ssl_defect.pretrain import METHODS
from ssl_defect.pretrain.stage import pretrain, usual_batch

UNTRAINED = "none"
Cells = dict[int, dict[str, Any]]  # by seed


def uses(method: str) -> list[str]:
    """The values of the method's option `groups`; without the option, or any training, only one."""
    if method == UNTRAINED:
        return [UNTRAINED]
    if method not in METHODS or not METHODS[method][0]:
        raise UserError(f"--methods: {method} is no method that trains; accepted: {', '.join(METHODS)}")
    fields = import_module(METHODS[method][0]).Options.model_fields
    if "groups" not in fields:
        raise UserError(f"--methods: {method} makes no use of groups; leave it out")
    return sorted(get_args(fields["groups"].annotation))


def jobs_of(options: argparse.Namespace, methods: list[str]) -> list[cells.Job]:
    """Seed by seed, so that a table can be had early."""
    found = []
    for seed in range(options.seeds):
        for method in methods:
            for use in uses(method):
                settings = [f"pretrain.method={method}", f"seed={seed}", "compute.threads=1"]
                settings += [f"pretrain.options.groups={use}"] if method != UNTRAINED else []
                recipe = load_recipe(options.recipe, [*options.settings, *settings])
                facts = {"method": method, "groups": use, "seed": seed}
                found.append(cells.Job(f"{method}-{use}-{seed}", recipe, facts))
    return found


def finetuning(job: cells.Job) -> cells.Job:
    """The cell that fine-tunes what `job` pretrained."""
    settings = digest([job.recipe.finetune.model_dump(), job.recipe.evaluate.model_dump(), job.identity])
    return cells.Job(f"{job.name}-finetune", job.recipe, job.facts | {"finetune": settings})


def probe(job: cells.Job, folder: Path) -> dict[str, Any]:
    """Pretrain in `folder`, going on from a checkpoint if there is one, and probe the encoder."""
    out = folder.parents[1]
    prepared = cells.prepared(out, job.recipe)
    pretrain(job.recipe, prepared, folder)
    found: dict[str, Any] = {"minutes": 0.0, "images": len(open_store(prepared).rows("train"))}
    if job.recipe.pretrain.method != UNTRAINED:
        summary, rows = read_json(folder / "pretrain.json"), history(folder)
        found["minutes"] = summary["training_seconds"] / 60
        found["images_per_second"] = median(row["images_per_second"] for row in rows)
        found |= {"losses": [row["loss"] for row in rows], "chance": summary["chance"]}
    return found | cells.probes(folder / "encoder.safetensors", job, out)


def detect(job: cells.Job, folder: Path) -> dict[str, Any]:
    """Fine-tune and evaluate the encoder of the cell beside this one."""
    out = folder.parents[1]
    beside = out / job.name.removesuffix("-finetune")
    before, prepared = read_json(beside / "cell.json"), cells.prepared(out, job.recipe)
    if "error" in before:
        raise UserError(f"{beside.name} has no encoder")
    finetune(job.recipe, prepared, beside / "work", folder / "finetune")
    (folder / "evaluate").mkdir(exist_ok=True)
    evaluate(job.recipe, prepared, beside / "work", folder / "finetune", folder / "evaluate")
    metrics = read_json(folder / "evaluate" / "metrics.json")
    found = {name: before[name] for name in ("knn", "linear", "minutes")}
    for level in ("image", "pixel"):
        values = metrics[level] or {}
        found |= {f"{level} {name}": values[name]["value"] for name in ("ap", "auroc") if name in values}
    return found


def table(found: dict[str, dict[str, Any]], tuned: dict[str, dict[str, Any]], methods: list[str]) -> list[str]:
    """A row per method and use of groups; margins are over the same method with `groups: ignore`."""
    measured = [("kNN AUROC", "knn", found), ("linear AUROC", "linear", found)]
    measured += [(f"{name}, fine-tuned", name, tuned) for name in ("pixel ap", "image auroc") if _has(tuned, name)]
    head = ["method", "groups", *(part for title, _, _ in measured for part in (title, "margin"))]
    head += ["loss, first to last epoch", "chance", "images/s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for method in methods:
        for use in uses(method):
            columns = []
            for _, name, source in measured:
                mine, plain = (pick(source, method, which) for which in (use, "ignore"))
                columns += _measured(mine, plain if use != "ignore" else {}, name)
            label = "" if method == UNTRAINED else use
            lines.append(f"| `{method}` | {label} | " + " | ".join([*columns, *_cost(pick(found, method, use))]) + " |")
    errors = [f"- {name}: {cell['error']}" for name, cell in (found | tuned).items() if "error" in cell]
    return [*lines, *(["", *errors] if errors else [])]


def _has(found: dict[str, dict[str, Any]], name: str) -> bool:
    return any(name in cell for cell in found.values())


def pick(found: dict[str, dict[str, Any]], method: str, use: str) -> Cells:
    """The finished cells of a row, by seed."""
    chosen = [c for c in found.values() if (c["method"], c["groups"]) == (method, use) and "error" not in c]
    return {cell["seed"]: cell for cell in chosen}


def _measured(mine: Cells, plain: Cells, name: str) -> list[str]:
    if not mine:
        return ["-", ""]
    paired = sorted(set(mine) & set(plain))
    margin = cells.compare(*([side[seed][name] for seed in paired] for side in (mine, plain))) if paired else None
    return [cells.shown([cell[name] for cell in mine.values()]), cells.shown_margin(margin) if margin else ""]


def _cost(mine: Cells) -> list[str]:
    trained = [cell for cell in mine.values() if cell.get("losses")]
    if not trained:
        return ["", "", ""]
    first, last = (fmean(cell["losses"][place] for cell in trained) for place in (0, -1))
    chance = trained[0]["chance"]
    speed = fmean(cell["images_per_second"] for cell in trained)
    return [f"{first:.3f} to {last:.3f}", "" if chance is None else f"{chance:.3f}", f"{speed:.0f}"]


def about(options: argparse.Namespace, job: cells.Job, found: dict[str, dict[str, Any]]) -> str:
    """What stands below the table."""
    recipe, images = job.recipe, max((cell.get("images", 0) for cell in found.values()), default=0)
    size = recipe.pretrain.batch_size or usual_batch(images)
    run = (
        f"{recipe.name}, {recipe.data.image_size} px, {recipe.model.backbone} from {recipe.pretrain.start}, "
        f"{images} training images, {recipe.pretrain.epochs} epochs of batches of {size}"
    )
    return (
        f"{run}; {options.seeds} seeds; {options.jobs} cells side by side on {machine()['processor']}, one thread "
        f"each. Margins: over `ignore`. Chance: with no near-copy masked. {cells.RULE}"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=cells.HERE / "magnetic_tile.yaml")
    parser.add_argument("--out", type=Path, default=Path("reports") / "groups")
    parser.add_argument("--methods", default="simclr,moco_v2,byol")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells side by side, one thread each")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--finetune", action="store_true", help="train and evaluate the recipe's task as well")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table of what is finished")
    parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    methods = [UNTRAINED, *(name for name in options.methods.split(",") if name)]
    jobs = jobs_of(options, methods)
    passes: list[tuple[list[cells.Job], Callable[[cells.Job, Path], dict[str, Any]]]] = [(jobs, probe)]
    passes += [([finetuning(job) for job in jobs], detect)] if options.finetune else []
    for each, work in passes:
        for job in each:
            if job.name == options.cell:
                cells.finish(options.out, job, work)
                return
    found, *tuned = [cells.run(each, options) for each, _ in passes]
    lines = [*table(found, tuned[0] if tuned else {}, methods), "", about(options, jobs[0], found)]
    cells.write_table(options, "groups", lines, [found, *tuned])


if __name__ == "__main__":
    main()
