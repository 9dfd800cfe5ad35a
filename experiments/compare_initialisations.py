"""One recipe, several initialisations, several seeds: a Markdown table with paired intervals.

    python experiments/compare_initialisations.py experiments/magnetic_tile.yaml --set data.root=PLACE

Runs lie beside each other in `--out`, so that they share their preparation and, since the seed of pretraining is
fixed, one pretraining per method. Killed and started again, it goes on. A cell is the mean over the seeds; its
interval is over test groups and seeds; a difference is paired by both.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_defect import pipeline
from ssl_defect.artifacts import Record, read_json, read_record, write_json
from ssl_defect.compare.seeds import interval
from ssl_defect.config import load_recipe
from ssl_defect.data.store import open_store
from ssl_defect.evaluate.bootstrap import Resampling, leave_out
from ssl_defect.evaluate.metrics import image_family
from ssl_defect.evaluate.regions import count_pixels, pixel_family

SHOWN = ("image auroc", "image ap", "pixel ap", "pixel aupro", "pixel dice")
SPEC = Resampling(draws=1000, level=0.95, seed=0)


@dataclass(frozen=True)
class Cell:
    """One initialisation: metrics (seeds,), the same without each block of groups (seeds, blocks), and its cost."""

    points: dict[str, np.ndarray]
    without: dict[str, np.ndarray]
    pretrain_minutes: float
    finetune_minutes: float
    probe: str


def run_folder(root: Path, method: str, seed: int) -> Path:
    return root / f"{method}-seed{seed}"


def families(run: Path) -> tuple[list[tuple[str, object]], np.ndarray]:
    """The image and pixel metrics of a run's test images, and their groups."""
    with (run / "evaluate" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    metrics = read_json(run / "evaluate" / "metrics.json")
    labels = np.array([int(row["label"]) for row in rows])
    scores = np.array([float(row["score"]) for row in rows])
    found: list[tuple[str, object]] = [("image", image_family(labels, scores, metrics["threshold"]["value"]))]
    if metrics["pixel"] is not None:
        store = open_store(run / "prepare")
        maps = np.load(run / "evaluate" / "maps.npy", mmap_mode="r")
        masks = store.masks[np.array([int(row["row"]) for row in rows])]
        cut = float(np.round(metrics["threshold"]["pixel"] * 255))
        found.append(("pixel", pixel_family(count_pixels(maps, masks, cut), cut, metrics["pixel"]["aupro_limit"])))
    return found, np.array([int(row["group"]) for row in rows])


def record(run: Path, stage: str) -> Record:
    found = read_record(run / stage)
    assert found is not None
    return found


def cell(root: Path, method: str, seeds: list[int]) -> Cell:
    points: dict[str, list[float]] = {}
    without: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        parts, groups = families(run_folder(root, method, seed))
        left_out = leave_out([family for _, family in parts], groups)
        for (level, family), values in zip(parts, left_out, strict=True):
            for name, value in family(np.ones((1, len(groups)))).items():
                points.setdefault(f"{level} {name}", []).append(float(value[0]))
                without.setdefault(f"{level} {name}", []).append(values[name])
    runs = [run_folder(root, method, seed) for seed in seeds]
    probe = read_json(runs[0] / "pretrain" / "pretrain.json")["probe"]
    shown = "-" if probe.get("after") is None else f"{probe['before']:.3f} -> {probe['after']:.3f}"
    return Cell(
        {name: np.array(values) for name, values in points.items()},
        {name: np.stack(values) for name, values in without.items()},
        record(runs[0], "pretrain").seconds / 60,
        float(np.mean([record(run, "finetune").seconds for run in runs])) / 60,
        shown,
    )


def markdown(cells: dict[str, Cell], baselines: list[str], shown: list[str]) -> list[str]:
    lines = ["| initialisation | " + " | ".join(shown) + " | kNN probe | pretraining, min | fine-tuning, min |"]
    lines.append("|" + "---|" * (len(shown) + 4))
    for method, each in cells.items():
        values = []
        for name in shown:
            low, high = interval(each.points[name], each.without[name])
            values.append(f"{each.points[name].mean():.3f} ({low:.3f} to {high:.3f})")
        cost = f"{each.pretrain_minutes:.1f} | {each.finetune_minutes:.1f}"
        lines.append(f"| `{method}` | " + " | ".join(values) + f" | {each.probe} | {cost} |")
    for baseline in baselines:
        lines += ["", f"Difference from `{baseline}`, paired; bold where the interval leaves zero out:", ""]
        lines += ["| initialisation | " + " | ".join(shown) + " |", "|" + "---|" * (len(shown) + 1)]
        for method, each in cells.items():
            if method != baseline:
                lines.append(f"| `{method}` | " + " | ".join(_differences(each, cells[baseline], shown)) + " |")
    return lines


def _differences(a: Cell, b: Cell, shown: list[str]) -> list[str]:
    values = []
    for name in shown:
        low, high = interval(a.points[name] - b.points[name], a.without[name] - b.without[name])
        text = f"{a.points[name].mean() - b.points[name].mean():+.3f} ({low:+.3f} to {high:+.3f})"
        values.append(f"**{text}**" if low > 0 or high < 0 else text)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, help="reports/<recipe's name>_table where left out")
    parser.add_argument("--methods", default="none,imagenet,simclr,mae")
    parser.add_argument("--baselines", default="none,imagenet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    methods, seeds = options.methods.split(","), list(range(options.seeds))
    root = options.out or Path("reports") / f"{load_recipe(options.recipe).name}_table"
    for seed in seeds:
        for method in methods:
            settings = [*options.settings, "pretrain.seed=0", f"pretrain.method={method}", f"seed={seed}"]
            recipe = load_recipe(options.recipe, [*settings, f"name={root.name}-{method}-{seed}"])
            pipeline.run(recipe, run_folder(root, method, seed))
    cells = {method: cell(root, method, seeds) for method in methods}
    shown = [name for name in SHOWN if name in cells[methods[0]].points]
    lines = markdown(cells, options.baselines.split(","), shown)
    machine = record(run_folder(root, methods[0], 0), "pretrain").machine
    lines += ["", f"{len(seeds)} seeds; {machine['processor']}, {machine['cores']} cores."]
    (root / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(root / "table.json", {m: {n: list(v) for n, v in c.points.items()} for m, c in cells.items()})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
