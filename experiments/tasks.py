"""Every task on real pictures, from two initialisations, beside good images alone and the classical ways: one table.

    python experiments/tasks.py --root magnetic_tile=../shared/data/magnetic_tile [--size 64] [--jobs 2] [--only pairs]

Rows are runs of the whole pipeline, beside each other in `--out`, so that they share their preparation and encoders.
Killed and started again, it goes on. Intervals are those of the runs: over near-copy groups of the test images. One
seed: the table shows that every task works and about how well, not which is best by a little.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import run_each

from ssl_defect import pipeline
from ssl_defect.artifacts import machine, read_json, read_record, write_json
from ssl_defect.config import Recipe, load_recipe
from ssl_defect.console import say
from ssl_defect.errors import UserError

HERE = Path(__file__).resolve().parent
RECIPES = {"magnetic_tile": "magnetic_tile.yaml", "elpv": "quickstart.yaml"}
DETECTORS = ("faster_rcnn", "ssd", "retinanet", "fcos", "yolox")
TEXTURES = ("lbp", "glcm", "gabor", "texture")


@dataclass(frozen=True)
class Row:
    """A model on a set; `classical` ones have no encoder and so one initialisation."""

    name: str
    data: str
    task: str
    settings: tuple[str, ...] = ()
    only: str = ""

    def starts(self) -> list[str]:
        """The initialisations that it is run from."""
        return ["none"] if self.task == "classical" else ["none", "imagenet"]


def options_of(**values: Any) -> str:
    """Settings of the task as one `--set`."""
    return f"finetune.options={values}"


TILE, CELLS = "magnetic_tile", "elpv"
ROWS = [
    *(
        Row(f"segmentation, {decoder}", TILE, "segmentation", (options_of(decoder_width=16, decoder=decoder),))
        for decoder in ("unet", "fcn", "fpn", "deeplabv3plus")
    ),
    Row("segmentation, classes", TILE, "segmentation", (options_of(decoder_width=16, target="defect"),)),
    Row("segmentation, CBAM", TILE, "segmentation", (options_of(decoder_width=16, attention="cbam"),)),
    Row("segmentation, pairs", TILE, "segmentation", (options_of(decoder_width=16, pair="group"),)),
    Row("classification, binary", TILE, "classification"),
    Row("classification, classes", TILE, "classification", (options_of(target="defect"),)),
    Row("classification, pairs", TILE, "classification", (options_of(target="defect", pair="group"),)),
    Row("classification, binary", CELLS, "classification"),
    Row("regression of the grade", CELLS, "regression", (options_of(target="grade"),)),
    *(Row(f"detection, {name}", TILE, "detection", (options_of(architecture=name),)) for name in DETECTORS),
    Row("instances, Mask R-CNN", TILE, "instance"),
    *(
        Row(f"good images alone, {name}", data, "anomaly", (f"anomaly={{detector: {name}}}",))
        for data in (TILE, CELLS)
        for name in ("patchcore", "padim", "gaussian", "knn")
    ),
    *(
        Row(f"classical, {name}", TILE, "classical", (options_of(method=name),))
        for name in ("otsu", "adaptive", "template", "golden")
    ),
    *(
        Row(f"classical, {name} + {kind}", data, "classical", (options_of(method=name, classifier=kind),))
        for data in (TILE, CELLS)
        for name, kind in (("lbp", "svm"), ("glcm", "adaboost"), ("gabor", "forest"), ("texture", "forest"))
    ),
]


def runs(options: argparse.Namespace) -> dict[str, tuple[Row, str, Recipe]]:
    """The runs by the name of their folder."""
    roots = dict(pair.split("=", 1) for pair in options.root)
    found = {}
    for row in ROWS:
        if options.only and options.only not in row.name:
            continue
        for start in row.starts():
            name = "-".join([*"".join(c if c.isalnum() else " " for c in row.name).split(), row.data, start])
            lines = [f"name={name}", f"data.image_size={options.size}", f"pretrain.method={start}", "compute.threads=1"]
            lines += [f"model.backbone={options.backbone}", f"seed={options.seed}"]
            lines += [f"finetune.task={row.task}"] if row.task != "anomaly" else []
            lines += ["finetune.labels_per_class=null", f"finetune.steps={options.steps}", "finetune.batch_size=16"]
            lines += [
                "finetune.eval_every=50",
                "finetune.options={}",
                "evaluate.embeddings=false",
                "evaluate.gradcam=4",
            ]
            lines += [f"data.root={roots[row.data]}"] if row.data in roots else []
            found[name] = (
                row,
                start,
                load_recipe(HERE / RECIPES[row.data], [*lines, *row.settings, *options.settings]),
            )
    return found


def work(options: argparse.Namespace, wanted: dict[str, tuple[Row, str, Recipe]]) -> None:
    """All runs, `--jobs` at a time in processes of their own; a failed one is said and the others go on."""
    for name, (_, _, recipe) in wanted.items():  # one after the other, so that what they share is made once
        last = "prepare" if recipe.finetune.task == "classical" else "pretrain"
        try:
            pipeline.run(recipe, options.out / name, "prepare", last)
        except UserError as error:
            say(f"{name}: {error}")
    run_each(list(wanted), options.out, options.jobs)


def score(metrics: dict[str, Any]) -> str:
    """What the task is judged by: its own metrics first, then those of pixels, then average precision of images."""
    own = metrics.get("task")
    if own:
        picked = [(named(key, own["names"]), value) for key, value in list(own["metrics"].items())[:3]]
    elif metrics.get("pixel"):
        picked = [(f"pixel {key.upper()}", metrics["pixel"][key]) for key in ("ap", "aupro")]
    else:
        picked = [("image AP", metrics["image"]["ap"])]
    return "; ".join(f"{name} {interval(value)}" for name, value in picked)


def named(key: str, names: dict[str, str]) -> str:
    """Short enough for a table: `AP50` as it is, of others what stands before the comma."""
    return key if key.isupper() else names.get(key, key).split(",")[0]


def interval(entry: dict[str, Any]) -> str:
    """`0.812 (0.790 to 0.840)`."""
    if entry["value"] is None:
        return "-"
    span = "" if entry["low"] is None else f" ({entry['low']:.3f} to {entry['high']:.3f})"
    return f"{entry['value']:.3f}{span}"


def table(options: argparse.Namespace, wanted: dict[str, tuple[Row, str, Recipe]]) -> tuple[list[str], dict[str, Any]]:
    """A row per run that is finished, and its metrics."""
    lines = [
        "| set | task, model | initialisation | score | image AUROC | fine-tuning, min | ms per image |",
        "|" + "---|" * 7,
    ]
    found = {}
    for name, (row, start, _) in wanted.items():
        try:
            metrics = read_json(options.out / name / "evaluate" / "metrics.json")
        except UserError:
            lines.append(f"| {row.data} | {row.name} | {start} | not finished | | | |")
            continue
        record = read_record(options.out / name / "finetune")
        minutes = "" if record is None else f"{record.seconds / 60:.1f}"
        shown = "-" if row.task == "classical" else f"`{start}`"
        cells = [row.data, row.name, shown, score(metrics), interval(metrics["image"]["auroc"]), minutes]
        lines.append("| " + " | ".join([*cells, f"{metrics['ms_per_image']:.1f}"]) + " |")
        found[name] = {key: metrics[key] for key in ("image", "pixel", "task", "ms_per_image")}
    return lines, found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", action="append", default=[], metavar="SET=FOLDER", help="where a set's pictures are")
    parser.add_argument("--out", type=Path, default=Path("reports") / "tasks")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side, one thread each")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table of what is finished")
    parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    wanted = runs(options)
    if options.cell:
        pipeline.run(wanted[options.cell][2], options.out / options.cell)
        return
    if not options.table:
        work(options, wanted)
    lines, found = table(options, wanted)
    about = f"{options.backbone}, {options.size} px, {options.steps} steps at most, all labels, one seed"
    lines += ["", f"{about}; {machine()['processor']}, {options.jobs} runs side by side, one thread each."]
    (options.out / "tasks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(options.out / "tasks.json", {"machine": machine(), "runs": found})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
