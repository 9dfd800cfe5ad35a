"""Table 1 of CutPaste (Li, Sohn, Yoon, Pfister, CVPR 2021, arXiv 2104.04015) on one category of MVTec AD.

    python experiments/cutpaste_table.py --set data.root=../shared/data/mvtec/screw --size 128 --epochs 200 --seeds 5

Each row pretrains a ResNet-18 from scratch on the good training images of the published split, fits a Gaussian to the
pooled features of these, and scores every test image by its Mahalanobis distance: image AUROC in percent, mean and
standard error over seeds. What differs from the paper:

- Size and schedule are those of `--size` and `--epochs`; the paper has 256 pixels and 256 epochs of 256 steps.
- AdamW at the recipe's rate, where the paper has SGD at 0.03 with a cosine schedule and weight decay 3e-5.
- The features are the 512 pooled ones, before the MLP head. So the authors' framework has it (Sohn et al. 2021,
  section 3.1); the paper leaves the depth of its head open, here it is one hidden layer (512 and 128 wide).
- The Gaussian's covariance is shrunk (Ledoit and Wolf 2004): a plain one is singular, 512 features against some 300
  images; the paper does not say how it meets that.

Beside it the same score on pictures that were brought to one mean brightness: in the category screw the good test
images are darker than the training images and than the defective ones, so that brightness alone tells them apart.

Killed and started again, it goes on: finished cells are kept, a begun one goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import cells
import numpy as np
from probing import features, knn_auroc
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from ssl_defect.artifacts import machine, read_json
from ssl_defect.config import load_recipe
from ssl_defect.data.store import Store, open_store
from ssl_defect.pretrain.stage import pretrain

ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "untrained": ("none", ()),
    "rotation": ("rotation", ()),
    "cutout": ("cutpaste", ("pretrain.options.variant=cutout",)),
    "scar": ("cutpaste", ("pretrain.options.variant=random_scar",)),
    "CutPaste": ("cutpaste", ("pretrain.options.variant=normal",)),
    "CutPaste (scar)": ("cutpaste", ("pretrain.options.variant=scar",)),
    "CutPaste (3-way)": ("cutpaste", ("pretrain.options.variant=3way",)),
}
PAPER = {
    "screw": {
        "rotation": "35.8 ± 2.9",
        "cutout": "17.6 ± 4.4",
        "scar": "11.3 ± 2.2",
        "CutPaste": "54.4 ± 1.7",
        "CutPaste (scar)": "83.7 ± 0.7",
        "CutPaste (3-way)": "86.3 ± 1.0",
    }
}  # Table 1: image AUROC, mean and standard error of five seeds


def distances(fit: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distances (Q,) of queries (Q, D) to a Gaussian fitted to `fit` (N, D)."""
    with threadpool_limits(1):
        gaussian = LedoitWolf().fit(fit.astype(np.float64))
        found: np.ndarray = gaussian.mahalanobis(queries.astype(np.float64))
    return found


def jobs_of(options: argparse.Namespace) -> list[cells.Job]:
    """Seed by seed, so that a table can be had early."""
    found = []
    for seed in range(options.seeds):
        for row in options.rows.split(","):
            method, settings = ROWS[row]
            lines = ["data.protocol=official", "data.copies=false", "data.val_share=0.05", "compute.threads=1"]
            lines += [f"data.image_size={options.size}", "model.backbone=resnet18", f"seed={seed}"]
            lines += [f"pretrain.epochs={options.epochs}", f"pretrain.batch_size={options.batch}"]
            lines += ["pretrain.probe_every=1000000"]
            recipe = load_recipe(options.recipe, [*lines, f"pretrain.method={method}", *settings, *options.settings])
            name = "".join(letter for letter in row.lower() if letter.isalnum())
            found.append(cells.Job(f"{name}-{seed}", recipe, {"row": row, "seed": seed}))
    return found


def work(job: cells.Job, folder: Path) -> dict[str, Any]:
    """Pretrain in `folder`, going on from a checkpoint if there is one, and score the test images."""
    prepared = cells.prepared(folder.parents[1], job.recipe)
    store, encoder = open_store(prepared), None
    found: dict[str, Any] = {"minutes": 0.0}
    if job.recipe.pretrain.method != "none":
        if not (folder / "pretrain.json").exists():
            pretrain(job.recipe, prepared, folder)
        encoder = folder / "encoder.safetensors"
        found["minutes"] = read_json(folder / "pretrain.json")["training_seconds"] / 60
        found["history"] = (folder / "history.csv").read_text(encoding="utf-8").splitlines()
    pooled, even = (features(encoder, job.recipe, prepared, job.recipe.seed, 1, x) for x in (None, levelled(store)))
    good, test = np.concatenate([store.rows("train"), store.rows("val")]), store.rows("test")
    good = good[store.labels[good] == 0]  # all of the published training part: pretraining leaves the validation out
    auroc, level = (float(roc_auc_score(store.labels[test], distances(x[good], x[test]))) for x in (pooled, even))
    nearest = knn_auroc(pooled, store.labels, np.full(len(pooled), -1), good, test)
    counts = {
        "good_images": len(good),
        "test_images": len(test),
        "defective_test_images": int(store.labels[test].sum()),
    }
    said = f"image AUROC {auroc:.3f}, of one brightness {level:.3f}, kNN {nearest:.3f}"
    return found | counts | {"auroc": auroc, "auroc_level": level, "knn": nearest, "said": said}


def levelled(store: Store) -> np.ndarray:
    """All pictures scaled to the mean brightness of the training images, uint8."""
    images = np.asarray(store.images, dtype=np.float32)
    means = images.mean(axis=(1, 2, 3), keepdims=True)
    scaled = images * means[store.rows("train")].mean() / np.maximum(means, 1)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def shown(values: list[float]) -> str:
    """Percent, mean and standard error."""
    if not values:
        return "-"
    error = f" ± {100 * stdev(values) / math.sqrt(len(values)):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{error}"


def accuracy(found: list[dict[str, Any]]) -> str:
    """Of the pretext in the last epoch, mean over seeds."""
    last = [dict(zip(c["history"][0].split(","), c["history"][-1].split(","), strict=True)) for c in found]
    values = [float(row["accuracy"]) for row in last if row.get("accuracy")]
    return f"{100 * fmean(values):.0f}%" if values else ""


def table(options: argparse.Namespace, found: dict[str, dict[str, Any]], category: str) -> list[str]:
    """A row per way of pretraining, beside the paper's numbers where they are known."""
    paper = PAPER.get(category, {})
    head = ["pretraining", "image AUROC", "paper", "of one brightness", "kNN AUROC", "seeds"]
    head += ["pretext right", "minutes"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in options.rows.split(","):
        mine = [cell for cell in found.values() if cell["row"] == row and "error" not in cell]
        auroc, level, nearest = (shown([cell[name] for cell in mine]) for name in ("auroc", "auroc_level", "knn"))
        right = accuracy([cell for cell in mine if "history" in cell])
        minutes = f"{fmean(cell['minutes'] for cell in mine):.1f}" if mine else "-"
        counted = f"{nearest} | {len(mine)} | {right} | {minutes}"
        lines.append(f"| {row} | {auroc} | {paper.get(row, '')} | {level} | {counted} |")
    return lines + [f"\n- {name}: {cell['error']}" for name, cell in found.items() if "error" in cell]


def about(options: argparse.Namespace, job: cells.Job, found: dict[str, dict[str, Any]]) -> str:
    """What stands below the table."""
    recipe, one = job.recipe, next((cell for cell in found.values() if "auroc" in cell), {})
    return (
        f"{Path(recipe.data.root).name}, published split: {one.get('good_images', 0)} good training images, a "
        "twentieth of them for the Gaussian alone, "
        f"{one.get('test_images', 0)} test images ({one.get('defective_test_images', 0)} defective). ResNet-18 from "
        f"scratch, {options.size} px (paper: 256), {options.epochs} epochs of {options.batch} images per step, AdamW "
        f"at {recipe.pretrain.learning_rate:g}. Percent, mean ± standard error over seeds; {machine()['processor']}, "
        f"{options.jobs} cells side by side, one thread each. Gaussian with Ledoit-Wolf covariance on pooled features."
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=cells.HERE / "mvtec.yaml", help="where the pictures come from")
    parser.add_argument("--out", type=Path, default=Path("reports") / "cutpaste_table")
    parser.add_argument("--rows", default=",".join(ROWS), help="with commas between")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="side of a picture, pixels")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32, help="pictures per step; each gives two or three views")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells side by side, one thread each")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table of what is finished")
    parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [row for row in options.rows.split(",") if row not in ROWS]
    if unknown:
        parser.error(f"--rows: there is no row {', '.join(unknown)}; accepted: {', '.join(ROWS)}")
    return options


def main() -> None:
    options = parse()
    jobs = jobs_of(options)
    for job in jobs:
        if job.name == options.cell:
            cells.finish(options.out, job, work)
            return
    found = cells.run(jobs, options)
    lines = table(options, found, Path(jobs[0].recipe.data.root).name)
    cells.write_table(options, "cutpaste_table", [*lines, "", about(options, jobs[0], found)], found)


if __name__ == "__main__":
    main()
