"""The measures of detection and instances, from the predictions of an evaluation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssl_defect.data.boxes import box_names, read_boxes
from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.evaluate.bootstrap import Resampling
from ssl_defect.evaluate.detection_metrics import measure
from ssl_defect.nets.detector import Spec

SIZE, DEPTH = 32, 4


def make_store() -> Store:
    rng, samples, masks = np.random.default_rng(0), [], np.zeros((30, SIZE, SIZE), np.uint8)
    for row in range(30):
        kind = ("good", "spot", "dent")[row % 3]
        for left in (2, 18)[: 0 if kind == "good" else 1 + row % 2]:
            y, x, side = rng.integers(1, 18), left + rng.integers(0, 4), rng.integers(4, 10)
            masks[row, y : y + side, x : x + side] = 1
        samples.append(Sample(f"{row}.png", "", int(kind != "good"), kind, row, "val" if row < 6 else "test"))
    masks[8] = 0  # defective, and nobody knows where
    return Store(Path(), samples, np.zeros((30, SIZE, SIZE, 1), np.uint8), masks)


def evaluated(store: Store, classes: list[str], missed: int = 0) -> Any:
    """Perfect predictions, but for the boxes of the first `missed` test rows that have any."""
    table, rows = read_boxes(store, classes), np.arange(30)
    others = {
        "boxes": np.zeros((30, DEPTH, 4), np.float32),
        "box_scores": np.zeros((30, DEPTH), np.float32),
        "box_classes": np.zeros((30, DEPTH), np.float32),
        "box_masks": np.ones((30, DEPTH, 28, 28), np.float32),
    }
    for row in rows:
        count = len(table.edges[row])
        if row >= 6 and count and missed:
            missed -= 1
            continue
        others["boxes"][row, :count] = table.edges[row]
        others["box_classes"][row, :count] = table.classes[row]
        others["box_scores"][row, :count] = 0.9 - 0.1 * np.arange(count)
    test = rows[6:]
    return SimpleNamespace(
        store=store,
        found=SimpleNamespace(others=others, rows=rows),
        split=6,
        test=test,
        labels=store.labels[test],
        groups=store.groups[test],
        spec=Resampling(draws=200),
    )


def spec(task: str, classes: list[str]) -> Spec:
    return Spec(task, "test_resnet", SIZE, 1, classes, {"smallest_part": 1})


@pytest.mark.parametrize("task", ["detection", "instance"])
def test_perfect_predictions(task: str) -> None:
    store = make_store()
    block = measure(evaluated(store, box_names(store)), spec(task, box_names(store)))
    assert block is not None
    assert set(block["names"]) == set(block["metrics"])
    assert all(value["value"] == pytest.approx(1) for value in block["metrics"].values())
    assert set(block["classes"]) == {"dent", "spot"}
    assert block["classes"]["dent"]["AP50"]["value"] == pytest.approx(1)
    assert "1 defective images without a known box are left out" in block["note"]
    assert ("box_AP" in block["metrics"]) == (task == "instance")


def test_missed_boxes_lower_it_and_widen_the_interval() -> None:
    store, classes = make_store(), ["good", "defective"]
    block = measure(evaluated(store, classes, missed=5), spec("detection", classes))
    assert block is not None
    found = block["metrics"]["AP50"]
    table = read_boxes(store, classes)
    rows = [row for row in range(6, 30) if table.counts[row]]
    share = 1 - table.counts[rows[:5]].sum() / table.counts[rows].sum()
    assert found["value"] == pytest.approx(np.floor(share * 100 + 1) / 101)
    assert found["low"] < found["value"] < found["high"]
    assert block["classes"] == {}


def test_nothing_to_measure_without_boxes() -> None:
    store = make_store()
    bare = Store(store.folder, store.samples, store.images, None)
    assert measure(evaluated(bare, ["good", "defective"]), spec("detection", ["good", "defective"])) is None
