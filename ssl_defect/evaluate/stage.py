"""evaluate: a detector on validation and test images, to predictions, metrics, curves and pictures of both."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ssl_defect.artifacts import write_json
from ssl_defect.config import Recipe
from ssl_defect.console import say
from ssl_defect.data.store import Store, open_test
from ssl_defect.errors import UserError
from ssl_defect.evaluate import tables
from ssl_defect.evaluate.before import starting_encoder, told_by_neighbours
from ssl_defect.evaluate.gradcam import gradcam, worth_a_look
from ssl_defect.evaluate.inference import Runner, run
from ssl_defect.evaluate.kept_counts import PIXELS, packed
from ssl_defect.evaluate.measure import measure
from ssl_defect.evaluate.metrics import Array
from ssl_defect.evaluate.pixels import Pixels
from ssl_defect.evaluate.relevance import relevance
from ssl_defect.evaluate.results import Results, decide
from ssl_defect.nets.detector import load_detector

CAM_BATCH = 8
UNEXPLAINED = ("classical", "anomaly")  # no logits to follow back: there is no encoder, or nothing was trained


def evaluate(recipe: Recipe, prepared: Path, pretrained: Path, finetuned: Path, out: Path) -> None:
    """Run the detector in `finetuned` over the validation and test images of `prepared` and write `out`.

    Both thresholds are chosen on validation. Without masks or maps the pixel metrics are null. The encoder in
    `pretrained` is looked at for the embeddings alone, where fine-tuning changed it.

    Raises:
        UserError: no test images, a missing or damaged file, another image size, or NaN predictions.
    """
    began = time.perf_counter()
    store, opened = open_test(prepared, out.parent)
    detector = load_detector(finetuned / "model.safetensors")
    before = starting_encoder(detector, pretrained) if recipe.evaluate.embeddings else None
    runner = Runner(detector, recipe.compute)
    val, test = store.rows("val"), store.rows("test")
    if not len(test):
        raise UserError(f"{prepared}: no test images; raise data.test_share and prepare again")
    _check_size(store, runner)
    scratch = out / ".maps.tmp.npy"
    try:
        features_from = 0 if recipe.evaluate.embeddings else len(val) + len(test)
        found = run(runner, store, np.concatenate([val, test]), scratch, features_from, before)
        results = decide(recipe, store, found, len(val))
        say("evaluate: metrics and intervals")
        pixel = Pixels(results) if results.pixel else None
        metrics, curves = measure(results, runner, pixel)
        metrics["protocol"]["test_opened"] = opened
        metrics["neighbours"] = told_by_neighbours(results)
        tables.write_predictions(out / "predictions.csv", results, runner.detector.spec)
        tables.write_maps(out / "maps.npy", results)
        if pixel:
            tables.write_arrays(out / PIXELS, **packed(pixel.kept()))
    finally:
        scratch.unlink(missing_ok=True)
    write_json(out / "curves.json", curves)
    if recipe.evaluate.embeddings:
        say("evaluate: embedding the test and validation images by PCA, t-SNE and UMAP")
        tables.write_embeddings(out / "embeddings.csv", results)
    _explain(out / "gradcam.npz", results, runner)
    write_json(out / "metrics.json", {**metrics, "seconds": round(time.perf_counter() - began, 2)})


def _check_size(store: Store, runner: Runner) -> None:
    wanted, there = runner.detector.spec.image_size, store.images.shape[1]
    if wanted != there:
        raise UserError(
            f"data.image_size: the pictures are {there} pixels, the detector takes {wanted}; finetune again"
        )


def _explain(path: Path, results: Results, runner: Runner) -> None:
    picked = worth_a_look(results.labels, results.scores, results.image.value, results.recipe.evaluate.gradcam)
    if not len(picked) or runner.detector.spec.task in UNEXPLAINED:
        return
    say(f"evaluate: explaining {len(picked)} test images")
    rows = results.test[picked]
    parts = [rows[i : i + CAM_BATCH] for i in range(0, len(rows), CAM_BATCH)]
    found: dict[str, list[Array]] = {"cam": [], "relevance": []}
    for part in parts:
        pictures = runner.pictures(results.store, part)
        found["cam"].append(gradcam(runner.detector, pictures))
        more = relevance(runner.detector, pictures)  # of a plain ViT
        found["relevance"] += [] if more is None else [more]
    maps = {name: np.rint(np.concatenate(values) * 255).astype(np.uint8) for name, values in found.items() if values}
    tables.write_arrays(path, rows=rows, **maps)
