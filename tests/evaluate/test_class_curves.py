"""Curves, calibration and sizes of results whose scores and maps are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from ssl_defect.config import Recipe
from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.evaluate.curves import CLASS_POINTS, curves
from ssl_defect.evaluate.inference import Predictions
from ssl_defect.evaluate.measure import _sizes
from ssl_defect.evaluate.pixels import Pixels
from ssl_defect.evaluate.results import Results, decide

SIZE, COUNT, VALIDATION = 8, 360, 60


@pytest.fixture(scope="module")
def results() -> Results:
    """Every other image is defective, cracks well and stains badly told from good; 60 are validation."""
    rng = np.random.default_rng(0)
    defects = [("good", "crack", "good", "stain")[row % 4] for row in range(COUNT)]
    masks = np.zeros((COUNT, SIZE, SIZE), np.uint8)
    for row in range(1, COUNT, 2):
        masks[row, : 1 + row % 5, :4] = 1
    masks[COUNT - 1] = 0  # a defect that nobody drew
    samples = [
        Sample(f"{row}.png", label=row % 2, defect=name, group=row // 2, split="val" if row < VALIDATION else "test")
        for row, name in enumerate(defects)
    ]
    shift = np.array([{"good": 0.0, "crack": 0.45, "stain": 0.15}[name] for name in defects])
    scores = np.clip(rng.normal(0.3 + shift, 0.15), 0, 1)
    maps = (masks * shift[:, None, None] + rng.random((COUNT, SIZE, SIZE)) / 2).astype(np.float32)
    store = Store(Path(), samples, np.zeros((COUNT, SIZE, SIZE, 1), np.uint8), masks)
    recipe = Recipe.model_validate(
        {
            "name": "known",
            "data": {"source": "folder", "root": "nowhere", "image_size": 32},
            "finetune": {"task": "segmentation"},
            "evaluate": {"bootstrap": 100},
        }
    )
    found = Predictions(np.arange(COUNT), scores, None, maps, np.zeros((0, 0)), 1.0)
    return decide(recipe, store, found, VALIDATION)


def test_each_class_has_its_curves_against_all_good_images(results: Results) -> None:
    found = curves(results, Pixels(results))
    assert set(found["bands"]) == {"roc", "pr", "pixel_roc", "pixel_pr", "pro"}
    assert list(found["classes"]) == ["crack", "stain"]
    defects = np.array(results.defects)
    for name, one in found["classes"].items():
        wanted = (defects == name) | (defects == "good")
        fpr, tpr, _ = roc_curve(results.labels[wanted], results.scores[wanted], drop_intermediate=False)
        assert set(one) == set(one["bands"]) | {"bands"} == {"roc", "pr", "pro", "bands"}
        assert len(one["roc"]["fpr"]) <= CLASS_POINTS + 1
        points = set(zip(np.round(fpr, 6), np.round(tpr, 6), strict=True))
        assert points >= set(zip(one["roc"]["fpr"], one["roc"]["tpr"], strict=True))
        for key, across, up in (("roc", "fpr", "tpr"), ("pro", "fpr", "pro")):
            band = one["bands"][key]
            middle = np.interp(band[across], one[key][across], one[key][up])
            assert np.mean((np.array(band["low"]) <= middle + 0.02) & (middle - 0.02 <= np.array(band["high"]))) > 0.95
    roc = {name: np.mean(one["bands"]["roc"]["low"]) for name, one in found["classes"].items()}
    assert roc["crack"] > roc["stain"] + 0.1


def test_the_overlap_is_measured_up_to_the_limit_of_aupro(results: Results) -> None:
    band = curves(results, Pixels(results))["bands"]["pro"]
    assert band["fpr"][0] == 0
    assert band["fpr"][-1] == results.recipe.evaluate.aupro_limit


def test_without_maps_there_are_curves_of_images_alone(results: Results) -> None:
    found = curves(results, None)
    assert found["pro"] is None
    assert set(found["bands"]) == {"roc", "pr"}
    assert set(found["classes"]["crack"]) == {"roc", "pr", "bands"}


def test_sizes_count_the_drawn_defects_of_the_test_images(results: Results) -> None:
    rows = _sizes(results)
    assert rows is not None
    assert sum(row["images"] for row in rows) == (COUNT - VALIDATION) // 2 - 1
    assert rows[0]["area"][0] == pytest.approx(4 / 64)
    hits = results.scores >= results.image.value
    found = sum(row["images"] * row["recall"]["value"] for row in rows)
    drawn = (results.labels > 0) & (results.test != COUNT - 1)
    assert found == pytest.approx(hits[drawn].sum())
