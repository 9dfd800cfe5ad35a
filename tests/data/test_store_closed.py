"""Test labels are opened by `evaluate` alone: training gets a store that refuses them, and each opening is counted."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_defect.config import DataSettings, Recipe
from ssl_defect.data.boxes import box_names, read_boxes
from ssl_defect.data.records import Box, Sample, format_boxes
from ssl_defect.data.store import HIDDEN, OPENED, Store, open_store, open_test
from ssl_defect.errors import UserError
from ssl_defect.pretrain import stage as pretraining

PACKAGE = Path(__file__).resolve().parents[2] / "ssl_defect"
REFUSED = "labels and masks of test images are opened by `evaluate` alone; train on rows of train, choose on val"


def drawn(folder: Path = Path()) -> Store:
    """Two images of each split: a good one and a crack; in test a dent instead, and a scratch among its boxes."""
    samples = []
    for split, defect in (("train", "crack"), ("val", "crack"), ("test", "dent")):
        samples.append(Sample(f"{split}/0.png", split=split, group=len(samples)))
        boxes = format_boxes([Box(1, 1, 4, 4, "scratch" if split == "test" else defect)])
        samples.append(
            Sample(f"{split}/1.png", "m.png", 1, defect, len(samples), split, "", 0.5, 8, 8, area=0.1, boxes=boxes)
        )
    masks = np.zeros((6, 8, 8), np.uint8)
    masks[1::2, 2:4, 2:4] = 1
    return Store(folder, samples, np.zeros((6, 8, 8, 1), np.uint8), masks)


ASKED = {
    "rows": lambda store: store.rows("test"),
    "label": lambda store: store.labels[5],
    "labels": lambda store: store.labels[np.array([0, 4])],
    "every label": lambda store: store.labels[:],
    "labels by a mask": lambda store: store.labels[np.array([s.split == "test" for s in store.samples])],
    "one of the labels in turn": lambda store: list(store.labels),
    "mask": lambda store: store.masks[4],
    "masks": lambda store: store.masks[[1, 5], 2:4],
    "masks from behind": lambda store: store.masks[-1],
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_what_is_known_of_test_images_is_refused(ask: Any) -> None:
    ask(drawn())
    with pytest.raises(UserError, match=REFUSED):
        ask(drawn().without_test())


def test_all_else_stays() -> None:
    store, closed = drawn(), drawn().without_test()
    rows = np.concatenate([store.rows("train"), closed.rows("val")])
    assert closed.labels[rows].tolist() == store.labels[rows].tolist() == [0, 1, 0, 1]
    assert closed.labels[1] == 1
    assert closed.masks is not None
    assert store.masks is not None
    assert type(closed.masks[rows]) is np.ndarray
    assert (closed.masks[rows] == store.masks[rows]).all()
    assert closed.masks.shape == (6, 8, 8)
    assert closed.samples[:4] == store.samples[:4]
    assert closed.groups.tolist() == list(range(6))
    assert store.without_test().images is store.images
    assert "some rows closed" in repr(closed)
    assert closed.classes == store.classes == ["good", "crack", "dent"]
    assert box_names(closed) == box_names(store) == ["good", "crack", "dent", "scratch"]
    assert closed.class_numbers.tolist() == [0, 1, 0, 1, HIDDEN, HIDDEN]
    assert store.class_numbers.tolist() == [0, 1, 0, 1, 0, 2]
    assert read_boxes(closed, box_names(closed)).counts.tolist() == [0, 1, 0, 1, 0, 0]


def test_nothing_of_a_test_image_is_left_in_its_record() -> None:
    hidden = drawn().without_test().samples[5]
    assert hidden == Sample("test/1.png", label=HIDDEN, defect="", group=5, split="test", width=8, height=8)
    assert (np.asarray(drawn().without_test().labels)[4:] == HIDDEN).all()


@pytest.mark.parametrize("ask", ["rows", "labels", "mask"])
def test_a_pretraining_that_asks_for_test_labels_fails(
    ask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_defect.data.store.open_store", drawn)
    monkeypatch.setattr(pretraining, "training_rows", lambda recipe, store, kind: ASKED[ask](store))
    recipe = Recipe(name="peeping", data=DataSettings(source="synthetic", root="parts"))
    with pytest.raises(UserError, match=REFUSED):
        pretraining.pretrain(recipe, tmp_path / "prepare", tmp_path / "pretrain")


def test_stages_that_train_cannot_open_more() -> None:
    for path in (path for room in ("pretrain", "finetune", "anomaly", "train", "nets") for path in _files(room)):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & {"open_store", "open_test", "read_samples", "SAMPLES", "MASKS"}, path


def _files(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


def test_openings_are_counted_by_split_and_outlive_an_evaluation_that_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_defect.data.store.open_store", drawn)
    prepared = tmp_path / "run" / "prepare"
    prepared.mkdir(parents=True)
    (prepared / "audit.json").write_text('{"split_digest": "one"}')
    counts = [open_test(prepared, tmp_path / "run")[1] for _ in range(3)]
    assert counts == [1, 2, 3]
    (prepared / "audit.json").write_text('{"split_digest": "other"}')
    store, count = open_test(prepared, tmp_path / "run")
    assert count == 1
    assert store.labels[5] == 1
    (prepared / "audit.json").write_text('{"split_digest": "one"}')
    assert open_test(prepared, tmp_path / "run")[1] == 4
    (tmp_path / "run" / OPENED).write_text("{")
    with pytest.raises(UserError, match=r"test_opened.json: damaged"):
        open_test(prepared, tmp_path / "run")


def test_the_whole_store_is_open(tmp_path: Path) -> None:
    from ssl_defect.data.records import write_samples

    store = drawn()
    write_samples(tmp_path / "samples.csv", store.samples)
    np.save(tmp_path / "images.npy", store.images)
    np.save(tmp_path / "masks.npy", store.masks)
    found = open_store(tmp_path)
    assert found.rows("test").tolist() == [4, 5]
    closed = found.without_test()
    assert closed.masks is not None
    assert isinstance(closed.masks.base, np.memmap)  # nothing was copied
    with pytest.raises(UserError, match=REFUSED):
        closed.masks[5]
