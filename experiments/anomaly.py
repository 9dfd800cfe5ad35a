"""Detectors from good images alone on real pictures: three tables, one a call.

    python experiments/anomaly.py protocols --root magnetic_tile=../shared/data/magnetic_tile \
        --root mvtec=../shared/data/mvtec/screw
    python experiments/anomaly.py encoders --root magnetic_tile=... --methods none,imagenet,simclr,defect_seg
    python experiments/anomaly.py contamination --root magnetic_tile=... --root mvtec=...

`protocols`: Magnetic Tile as it was published (80% of the good images, drawn at random, to train on; all others for
test), the same with whole near-copy groups, and MVTec AD's screw as published. `encoders`: initialisations beside each
other on the split of the recipe. `contamination`: defective images among the good, with and without `clean`.

Rows are runs of the whole pipeline, beside each other in `--out`; killed and started again, it goes on. Intervals are
drawn over near-copy groups of the test images; a difference takes the same draws for both sides and is bold where its
interval leaves zero out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import one_class
from anomaly_tables import PUBLISHED, Row, table
from cells import run_each

from ssl_defect import pipeline
from ssl_defect.artifacts import digest, machine, read_json, write_json
from ssl_defect.config import Recipe, load_recipe
from ssl_defect.data.store import open_store

HERE = Path(__file__).resolve().parent
IMAGENET = "pretrain.method=imagenet"
SETS = {"tiles": "magnetic_tile", "screw": "mvtec"}
QUIET = ("evaluate.embeddings=false", "evaluate.gradcam=0", "compute.threads=1")
DETECTORS = {
    "protocols": "patchcore,padim,gaussian,knn",
    "encoders": "patchcore,padim,gaussian,knn",
    "contamination": "patchcore,padim,knn",
}


def recipe_of(options: argparse.Namespace, name: str, file: str, *settings: str) -> Recipe:
    """`--set` comes last."""
    lines = [f"name={name}", f"seed={options.seed}", f"data.image_size={options.size}", *QUIET]
    lines += [f"model.backbone={options.backbone}", *settings]
    return load_recipe(HERE / file, [*lines, *options.settings])


def detector_of(name: str, **more: Any) -> str:
    return f"anomaly={{detector: {name}, options: {more}}}"


def linked(options: argparse.Namespace, kind: str) -> list[str]:
    """Settings of a folder of links."""
    validation = f"data.split={'random' if kind == 'random' else 'group'}"
    return ["data.source=mvtec", f"data.root={options.out / 'links' / kind}", "data.protocol=official", validation]


def whole(options: argparse.Namespace, name: str = "magnetic_tile") -> Recipe:
    """A set as its recipe splits it: what the links are made from."""
    return recipe_of(options, f"whole-{name}", f"{name}.yaml", f"data.root={options.roots[name]}")


def protocols(options: argparse.Namespace) -> dict[str, Row]:
    found = {}
    for detector in options.detectors:
        for kind in ("random", "group") if "magnetic_tile" in options.roots else ():
            name, settings = f"tiles-{kind}-{detector}", [*linked(options, kind), f"data.val_share={options.val}"]
            recipe = recipe_of(options, name, "magnetic_tile.yaml", *settings, IMAGENET, detector_of(detector))
            found[name] = Row(f"tiles, {kind}", detector, recipe)
        if "mvtec" in options.roots:
            name, settings = f"screw-{detector}", [f"data.root={options.roots['mvtec']}", "data.protocol=official"]
            settings += [f"data.val_share={options.val}", IMAGENET, detector_of(detector)]
            found[name] = Row("screw, official", detector, recipe_of(options, name, "mvtec.yaml", *settings))
    return dict(sorted(found.items(), key=lambda item: list(PLACES).index(item[1].place)))


PLACES = {"tiles, random": "random", "tiles, group": "group", "screw, official": ""}


def encoders(options: argparse.Namespace) -> dict[str, Row]:
    found = {}
    for detector in options.detectors:
        for method in options.methods:
            name = f"{detector}-{method}"
            own = [f"pretrain.method={method}", "pretrain.seed=0", f"data.root={options.roots['magnetic_tile']}"]
            if method not in ("none", "imagenet"):
                own += [f"pretrain.epochs={options.epochs}", f"pretrain.start={options.start}"]
            recipe = recipe_of(options, name, "magnetic_tile.yaml", *own, detector_of(detector))
            found[name] = Row(
                method, detector, recipe, "" if method == options.baseline else f"{detector}-{options.baseline}"
            )
    return found


def contamination(options: argparse.Namespace) -> dict[str, Row]:
    found = {}
    percent = f"{100 * options.share:g}%"
    states = {
        "good only": ("pure", {}),
        "good only, clean": ("pure", {"clean": options.clean}),
        f"{percent} defective": ("contaminated", {}),
        f"{percent} defective, clean": ("contaminated", {"clean": options.clean}),
    }
    for (title, file), detector in product(SETS.items(), options.detectors):
        for state, (kind, more) in states.items() if file in options.roots else ():
            name = f"{file}-{detector}-{kind}{'-clean' if more else ''}"
            links = linked(options, f"{file}-{kind}")
            recipe = recipe_of(options, name, f"{file}.yaml", *links, IMAGENET, detector_of(detector, **more))
            baseline = "" if state == "good only" else f"{file}-{detector}-pure"
            found[name] = Row(f"{title}, {state}", detector, recipe, baseline)
    return found


def left_out(options: argparse.Namespace, rows: dict[str, Row]) -> list[str]:
    """How many of the defective images among the good `clean` has found."""
    lines = [
        "",
        "| training images | detector | left out | of them defective | all defective |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if not name.endswith("contaminated-clean") or not (options.out / name / "evaluate").exists():
            continue
        samples = open_store(options.out / f"whole-{name.split('-')[0]}" / "prepare").samples
        bad = {one_class.name_of(sample) for sample in samples if sample.label}
        store = open_store(options.out / name / "prepare")
        trained = [store.samples[row].image for row in store.rows("train")]
        cleaned = read_json(options.out / name / "finetune" / "finetune.json")["cleaned"]
        caught, there = (sum(Path(image).name in bad for image in images) for images in (cleaned, trained))
        lines.append(f"| {row.place} | `{row.detector}` | {len(cleaned)} | {caught} | {there} of {len(trained)} |")
    return lines


TABLES: dict[str, Callable[[argparse.Namespace], dict[str, Row]]] = {
    "protocols": protocols,
    "encoders": encoders,
    "contamination": contamination,
}


HEADS = {"protocols": "protocol", "encoders": "encoder", "contamination": "training images"}


def make_links(options: argparse.Namespace) -> None:
    """The folders that the rows read, from the prepared sets."""
    for name in () if options.what == "encoders" else options.roots:
        if options.what == "protocols" and name == "mvtec":
            continue  # as published
        recipe = whole(options, name)
        pipeline.run(recipe, options.out / f"whole-{name}", "prepare", "prepare")
        samples = open_store(options.out / f"whole-{name}" / "prepare").samples
        made = {
            "protocols": {
                "random": lambda samples=samples: one_class.held_out_good(samples, by="image"),
                "group": lambda samples=samples: one_class.held_out_good(samples, by="group"),
            },
            "contamination": {
                f"{name}-pure": lambda samples=samples: one_class.with_defects(samples, 0),
                f"{name}-contaminated": lambda samples=samples: one_class.with_defects(samples, options.share),
            },
        }[options.what]
        for kind, places in made.items():
            one_class.link(places(), Path(recipe.data.root), options.out / "links" / kind)


def work(options: argparse.Namespace, rows: dict[str, Row]) -> None:
    """All runs, `--jobs` at a time in processes of their own; what several share is made once, by the first."""
    data = {digest(row.recipe.data.model_dump(mode="json")): name for name, row in reversed(rows.items())}
    for name in data.values():
        pipeline.run(rows[name].recipe, options.out / name, "prepare", "prepare")
    parts = ("data", "model", "pretrain")
    first = {
        digest(row.recipe.model_dump(mode="json", include=set(parts))): name for name, row in reversed(rows.items())
    }
    run_each(list(first.values()), options.out, options.jobs)
    run_each([name for name in rows if name not in first.values()], options.out, options.jobs)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(TABLES))
    parser.add_argument(
        "--root", action="append", default=[], metavar="SET=FOLDER", help="magnetic_tile=..., mvtec=..."
    )
    parser.add_argument("--out", type=Path, help="reports/anomaly_<table> where left out")
    parser.add_argument("--detectors", default="", help="names with commas between")
    parser.add_argument(
        "--methods", default="none,imagenet,simclr,mae,defect_seg", help="encoders: how they come about"
    )
    parser.add_argument("--baseline", default="imagenet", help="encoders: what the others are compared with")
    parser.add_argument("--start", default="imagenet", help="encoders: what pretraining starts from")
    parser.add_argument("--epochs", type=int, default=30, help="encoders: of pretraining")
    parser.add_argument("--val", type=float, default=0.05, help="protocols: share of the good kept for the threshold")
    parser.add_argument(
        "--share", type=float, default=0.05, help="contamination: of training images that are defective"
    )
    parser.add_argument("--clean", type=float, default=0.1, help="contamination: share that the option leaves out")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side, one thread each")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table of what is finished")
    parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.roots = dict(pair.split("=", 1) for pair in options.root)
    options.out = options.out or Path("reports") / f"anomaly_{options.what}"
    options.detectors = (options.detectors or DETECTORS[options.what]).split(",")
    options.methods = options.methods.split(",")
    if options.what == "encoders" and "magnetic_tile" not in options.roots:
        parser.error("--root magnetic_tile=FOLDER is missing")
    if not set(options.roots) & {"magnetic_tile", "mvtec"}:
        parser.error("--root magnetic_tile=FOLDER or --root mvtec=FOLDER is missing")
    return options


def main() -> None:
    options = parse()
    rows = TABLES[options.what](options)
    if options.cell:
        pipeline.run(rows[options.cell].recipe, options.out / options.cell, "prepare", "evaluate")
        return
    if not options.table:
        make_links(options)
        work(options, rows)
    lines, found = table(options.out, rows, HEADS[options.what])
    if options.what == "contamination":
        lines += left_out(options, rows)
    about = f"{options.backbone}, {options.size} px, seed {options.seed}; {machine()['processor']}"
    lines += ["", f"{about}, {options.jobs} runs side by side, one thread each."]
    (options.out / f"{options.what}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(options.out / f"{options.what}.json", {"machine": machine(), "published": PUBLISHED, "runs": found})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
