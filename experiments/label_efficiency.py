"""How few labels? One recipe, several initialisations, a budget of labels per class each: a table and a drawing.

    python experiments/label_efficiency.py experiments/magnetic_tile.yaml --set data.root=PLACE [--seeds 3] [--jobs 2]
        [--start "defect_seg=pretrain.method=defect_seg pretrain.start=imagenet"] [--labels 1,5,10,20,all]

Runs lie beside each other in `--out`, so that all share their preparation, and all budgets and seeds of an
initialisation one pretraining (its seed is fixed). A point is the mean over the seeds of the labels, its band a 95%
interval over test groups and seeds, as in compare_initialisations.py. Killed and started again, it goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from cells import run_each
from compare_initialisations import families
from matplotlib.figure import Figure

from ssl_defect import pipeline
from ssl_defect.artifacts import machine, write_json
from ssl_defect.compare.seeds import interval
from ssl_defect.config import Recipe, load_recipe
from ssl_defect.evaluate.bootstrap import leave_out

STARTS = {
    "none": "pretrain.method=none",
    "imagenet": "pretrain.method=imagenet",
    "defect_seg": "pretrain.method=defect_seg pretrain.start=imagenet",
}
Points = dict[tuple[str, str], dict[str, np.ndarray]]  # (start, budget) -> metric -> (seeds, 1 + blocks), value first


def recipes(options: argparse.Namespace) -> dict[str, Recipe]:
    """The runs by the name of their folder, seed by seed, so that a figure can be had early."""
    found = {}
    for seed in range(options.seeds):
        for budget in options.labels.split(","):
            for start, settings in starts(options).items():
                name = f"{start}-{budget}-{seed}"
                lines = [f"name={name}", f"seed={seed}", "pretrain.seed=0", "compute.threads=1", *settings.split()]
                lines += [f"finetune.labels_per_class={'null' if budget == 'all' else budget}"]
                lines += ["evaluate.embeddings=false", "evaluate.gradcam=0", "report.pictures=0"]
                found[name] = load_recipe(options.recipe, [*lines, *options.settings])
    return found


def starts(options: argparse.Namespace) -> dict[str, str]:
    """Settings of each initialisation."""
    return dict(text.split("=", 1) for text in options.start) or STARTS


def work(options: argparse.Namespace, wanted: dict[str, Recipe]) -> None:
    """Pretrain once per initialisation, then fine-tune and evaluate `--jobs` runs at a time."""
    first = {name.split("-")[0]: name for name in reversed(wanted)}
    for name in first.values():
        pipeline.run(wanted[name], options.out / name, "prepare", "pretrain")
    run_each(list(wanted), options.out, options.jobs)


def measured(options: argparse.Namespace, wanted: dict[str, Recipe]) -> Points:
    """Values of what is finished, as it is and without each block of groups."""
    found: dict[tuple[str, str], dict[str, list[np.ndarray]]] = {}
    for name in wanted:
        run, (start, budget, _) = options.out / name, name.rsplit("-", 2)
        if not (run / "evaluate" / "metrics.json").exists():
            continue
        parts, groups = families(run)
        for (level, family), values in zip(parts, leave_out([family for _, family in parts], groups), strict=True):
            for metric, value in family(np.ones((1, len(groups)))).items():
                row = np.concatenate([value[:1], values[metric]])
                found.setdefault((start, budget), {}).setdefault(f"{level} {metric}", []).append(row)
    return {key: {metric: np.stack(rows) for metric, rows in value.items()} for key, value in found.items()}


def table(points: Points, options: argparse.Namespace, baseline: str = "imagenet") -> list[str]:
    """A table per metric; bold where the paired difference from `baseline` leaves zero out."""
    lines = []
    for metric in options.metrics.split(","):
        lines += ["", f"{metric}:", "", "| labels per class | " + " | ".join(starts(options)) + " |"]
        lines.append("|" + "---|" * (len(starts(options)) + 1))
        for budget in options.labels.split(","):
            cells = [_cell(points, metric, start, budget, baseline) for start in starts(options)]
            lines.append(f"| {budget} | " + " | ".join(cells) + " |")
    return lines


def _cell(points: Points, metric: str, start: str, budget: str, baseline: str) -> str:
    mine = points.get((start, budget), {}).get(metric)
    if mine is None:
        return "-"
    low, high = interval(mine[:, 0], mine[:, 1:])
    text = f"{mine[:, 0].mean():.3f} ({low:.3f} to {high:.3f})"
    theirs = points.get((baseline, budget), {}).get(metric)
    if start == baseline or theirs is None or theirs.shape != mine.shape:
        return text
    low, high = interval(mine[:, 0] - theirs[:, 0], mine[:, 1:] - theirs[:, 1:])
    difference = f"{mine[:, 0].mean() - theirs[:, 0].mean():+.3f} ({low:+.3f} to {high:+.3f})"
    return f"{text}; {f'**{difference}**' if low > 0 or high < 0 else difference}"


def draw_figure(points: Points, options: argparse.Namespace) -> Path:
    """A line per initialisation over the budgets, with its interval as a band."""
    budgets, metrics = options.labels.split(","), options.metrics.split(",")
    figure = Figure(figsize=(4.6 * len(metrics), 3.4), layout="constrained")
    for axis, metric in zip(np.atleast_1d(figure.subplots(1, len(metrics))), metrics, strict=True):
        for start in starts(options):
            there = [
                (x, points[start, b][metric]) for x, b in enumerate(budgets) if metric in points.get((start, b), {})
            ]
            if not there:
                continue
            places, values = zip(*there, strict=True)
            spans = np.array([interval(rows[:, 0], rows[:, 1:]) for rows in values])
            (line,) = axis.plot(places, [rows[:, 0].mean() for rows in values], marker="o", label=start)
            axis.fill_between(places, spans[:, 0], spans[:, 1], color=line.get_color(), alpha=0.15, linewidth=0)
        axis.set(xlabel="labels per class", title=metric, xticks=range(len(budgets)), xticklabels=budgets)
        axis.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    path: Path = options.out / "label_efficiency.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, default=Path("reports") / "label_efficiency")
    parser.add_argument("--labels", default="1,5,10,20,all", help="labels per class, with commas between")
    parser.add_argument(
        "--start", action="append", default=[], metavar="NAME=SETTINGS", help="settings apart by spaces"
    )
    parser.add_argument("--metrics", default="pixel ap,image auroc")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side, one thread each")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is finished")
    parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    wanted: dict[str, Any] = recipes(options)
    if options.cell:
        pipeline.run(wanted[options.cell], options.out / options.cell, "prepare", "evaluate")
        return
    if not options.table:
        work(options, wanted)
    points = measured(options, wanted)
    lines = [*table(points, options), "", f"{options.seeds} seeds; {machine()['processor']}."]
    (options.out / "label_efficiency.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    values = {" ".join(key): {m: rows[:, 0].tolist() for m, rows in found.items()} for key, found in points.items()}
    write_json(options.out / "label_efficiency.json", {"machine": machine(), "values": values})
    print("\n".join([*lines, str(draw_figure(points, options))]))


if __name__ == "__main__":
    main()
