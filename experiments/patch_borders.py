"""Where the largest distance of a good picture lies, by how patches at the border are averaged.

    python experiments/patch_borders.py --root ../shared/data/magnetic_tile

PatchCore averages each cell of a feature map with its surroundings. At the border these can be the cells that exist,
zeros where none exist (as in the authors' code), mirrored cells, or the window can be moved into the map. A map should
not know where the border is: of good validation images, which were not fitted on, the share with their largest
distance in the outermost ring of cells is to be the ring's own share of all cells. No defect is looked at for that;
the test metrics beside it are for the record.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_defect import pipeline
from ssl_defect.artifacts import machine
from ssl_defect.config import load_recipe
from ssl_defect.data.store import Store, open_store
from ssl_defect.evaluate.bootstrap import Resampling, intervals
from ssl_defect.evaluate.metrics import image_family
from ssl_defect.evaluate.regions import count_pixels, pixel_family
from ssl_defect.nets.anomaly import patches
from ssl_defect.nets.anomaly.base import enlarged
from ssl_defect.nets.anomaly.patchcore import Options, PatchCore
from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.nets.folding import folded
from ssl_defect.nets.weights import load_start

BATCH = 32
BORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "the window moved into the map": patches.around,
    "zeros outside": lambda maps: F.avg_pool2d(maps, 3, 1, 1),
    "the cells that exist": lambda maps: F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False),
    "mirrored cells": lambda maps: F.avg_pool2d(F.pad(maps, (1, 1, 1, 1), mode="reflect"), 3, 1),
}


def distances(head: PatchCore, encoder: Encoder, store: Store, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """(n,) and (n, h, w)."""
    found = [head(encoder, x) for x in pictures(store, rows)]
    return torch.cat([f["distance"] for f in found]), torch.cat([f["distances"] for f in found])


def pictures(store: Store, rows: np.ndarray) -> list[Tensor]:
    parts = [np.ascontiguousarray(store.images[rows[i : i + BATCH]]) for i in range(0, len(rows), BATCH)]
    return [torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255 for part in parts]


def at_border(maps: Tensor) -> float:
    """Share of maps (n, h, w) whose largest value lies in the outermost ring."""
    inner = F.pad(maps[:, 1:-1, 1:-1], (1, 1, 1, 1), value=-torch.inf)
    return float((maps.flatten(1).amax(1) > inner.flatten(1).amax(1)).float().mean())


def row(store: Store, encoder: Encoder, seed: int) -> tuple[float, float, list[float]]:
    """The ring's share of the cells, that of the largest distances, and test metrics."""
    fit, held, test = (store.rows(split) for split in ("train", "val", "test"))
    fit, held = (rows[store.labels[rows] == 0] for rows in (fit, held))
    options = {"detector": "patchcore", **Options().model_dump(mode="json")}
    head = PatchCore(encoder, options | PatchCore.measured(encoder, options, len(fit))).eval()
    with torch.inference_mode():
        head.fit(encoder, lambda: iter(pictures(store, fit)), seed)
        good = distances(head, encoder, store, held)[1]
        scores, maps = distances(head, encoder, store, test)
        big = enlarged(maps, store.images.shape[1]).numpy()
    scale = float(big.max())
    draws, groups = Resampling(1, 0.95, 0), store.groups[test]
    assert store.masks is not None
    found = intervals(image_family(store.labels[test], (scores / scores.max()).double().numpy(), 0.5), groups, draws)
    pixel = pixel_family(count_pixels(big / scale, store.masks[test], 0.5), 0.5, 0.3)
    cells = intervals(pixel, groups, draws)
    ring = 1 - (good.shape[1] - 2) * (good.shape[2] - 2) / (good.shape[1] * good.shape[2])
    return ring, at_border(good), [found["auroc"]["value"], cells["ap"]["value"], cells["aupro"]["value"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="Magnetic Tile")
    parser.add_argument("--out", type=Path, default=Path("reports") / "patch_borders")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    settings = [f"data.root={options.root}", f"data.image_size={options.size}"]
    recipe = load_recipe(Path(__file__).resolve().parent / "magnetic_tile.yaml", settings)
    pipeline.run(recipe, options.out, "prepare", "prepare")
    store = open_store(options.out / "prepare")
    encoder = build_encoder("tf_efficientnet_lite0", options.size).eval()
    load_start(encoder, "imagenet")
    light = folded(encoder)
    print("| at the border | ring's share of the cells | good images farthest there | image AUROC | pixel AP | AUPRO |")
    print("|---|---|---|---|---|---|")
    for name, around in BORDERS.items():
        setattr(patches, "around", around)  # noqa: B010 - mypy takes functions for constants
        found = [row(store, light, seed) for seed in range(options.seeds)]
        shares, metrics = np.mean([part[1] for part in found]), np.mean([part[2] for part in found], axis=0)
        cells = " | ".join(f"{value:.3f}" for value in metrics)
        print(f"| {name} | {found[0][0]:.2f} | {shares:.2f} | {cells} |", flush=True)
    print(f"\n{options.size} px, PatchCore 10%, mean of {options.seeds} seeds; {machine()['processor']}.")


if __name__ == "__main__":
    main()
