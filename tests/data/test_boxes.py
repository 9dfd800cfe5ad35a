"""Boxes and parts: from masks, from annotation, and moved along with their pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from ssl_defect.data.augment import Crop, random_geometry
from ssl_defect.data.boxes import box_names, boxes_of_parts, move_boxes, move_parts, parts_of, read_boxes
from ssl_defect.data.records import Box, Sample, format_boxes, parse_boxes, read_samples, write_samples
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError

SIZE = 64


def make_store(samples: list[Sample], masks: np.ndarray | None = None) -> Store:
    return Store(Path(), samples, np.zeros((len(samples), SIZE, SIZE, 1), np.uint8), masks)


def test_parts_by_hand() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = 1  # one part, over the diagonal
    mask[5:7, 3:8] = 1
    mask[0, 7] = 1
    numbers, boxes = parts_of(mask)
    assert sorted(boxes.tolist()) == [[0, 0, 3, 3], [3, 5, 8, 7], [7, 0, 8, 1]]
    for number, (x1, y1, x2, y2) in enumerate(boxes.astype(int), 1):
        assert (numbers[y1:y2, x1:x2] == number).sum() == (numbers == number).sum() > 0
    assert parts_of(mask, least=2)[1].tolist() == [[0, 0, 3, 3], [3, 5, 8, 7]]
    assert set(np.unique(parts_of(mask, least=4)[0])) == {0, 1}
    assert parts_of(0 * mask)[1].shape == (0, 4)


def test_parts_against_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = rng.random((40, 40)) < 0.2
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        expected = sorted((s[1].start, s[0].start, s[1].stop, s[0].stop) for s in ndimage.find_objects(labels))
        numbers, boxes = parts_of(mask)
        assert sorted(map(tuple, boxes.astype(int).tolist())) == expected
        assert numbers.max() == count
        assert ((numbers > 0) == mask).all()


def test_boxes_survive_their_column(tmp_path: Path) -> None:
    boxes = [Box(0, 1.25, 10.5, 20, "deep; wide 50%"), Box(1 / 3, 0, 4000, 7, "Kratzer, groß")]
    samples = [Sample("a.png", boxes=format_boxes(boxes)), Sample("b.png")]
    assert samples[0].boxes == "0 1.25 10.5 20 deep%3B wide 50%25; 0.333 0 4000 7 Kratzer, groß"
    write_samples(tmp_path / "samples.csv", samples)
    there = read_samples(tmp_path / "samples.csv")
    assert there == samples
    assert parse_boxes(there[0].boxes) == [boxes[0], Box(0.333, 0, 4000, 7, "Kratzer, groß")]
    assert parse_boxes("") == []
    with pytest.raises(ValueError, match="is not `x1 y1 x2 y2 class`"):
        parse_boxes("1 2 3 4")


def test_samples_of_an_earlier_version_have_no_boxes(tmp_path: Path) -> None:
    file = tmp_path / "samples.csv"
    write_samples(file, [Sample("a.png")])
    file.write_text("\n".join(line.rpartition(",")[0] for line in file.read_text().splitlines()))
    assert read_samples(file) == [Sample("a.png")]


def test_boxes_of_a_store_from_masks_and_annotation() -> None:
    masks = np.zeros((4, SIZE, SIZE), np.uint8)
    masks[1, 4:6, 8:12] = masks[1, 20, 20] = masks[2, 1:3, 1:3] = 1
    samples = [
        Sample("good.png"),
        Sample("masked.png", label=1, defect="spot"),
        Sample("both.png", label=1, defect="crack", width=128, height=32, boxes="2 4 10 8 crack; 0 0 200 32 dirt"),
        Sample("bare.png", label=1, defect="spot"),
    ]
    store = make_store(samples, masks)
    assert box_names(store) == ["good", "crack", "dirt", "spot"]
    table = read_boxes(store, box_names(store))
    assert table.counts.tolist() == [0, 2, 2, 0]
    assert table.edges[1].tolist() == [[8, 4, 12, 6], [20, 20, 21, 21]]
    assert table.edges[2].tolist() == [[1, 8, 5, 16], [0, 0, 64, 64]]
    assert [classes.tolist() for classes in table.classes] == [[], [3, 3], [1, 2], []]
    assert read_boxes(store, ["good", "defective"]).classes[2].tolist() == [1, 1]
    assert read_boxes(store, box_names(store), annotated=False).edges[2].tolist() == [[1, 1, 3, 3]]
    assert read_boxes(store, box_names(store), least=2).counts.tolist() == [0, 1, 2, 0]
    batch = table.batch(np.array([2, 0]))
    assert batch["boxes"].shape == (2, 2, 4)
    assert batch["box_class"].tolist() == [[1, 2], [-1, -1]]


def test_an_annotated_box_outside_its_picture() -> None:
    sample = Sample("a.png", label=1, defect="spot", width=20, height=10, boxes="1 2 3 4 spot; 30 1 40 5 spot")
    with pytest.raises(UserError, match=r"a\.png: the box '30 1 40 5 spot' lies outside the picture of 20 x 10 pixels"):
        read_boxes(make_store([sample]), ["good", "spot"])


def spots(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (count, 1, S, S) with three rectangles apart from each other, and their boxes (count, 3, 4)."""
    rng, masks, boxes = np.random.default_rng(0), np.zeros((count, 1, SIZE, SIZE), np.float32), []
    for mask in masks:
        for left, top in ((2, 4), (34, 5), (10, 40)):
            mask[0, top : top + rng.integers(2, 18), left : left + rng.integers(2, 18)] = 1
        boxes.append(parts_of(mask[0])[1])
    return torch.from_numpy(masks), torch.from_numpy(np.stack(boxes))


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.4, 1.0)])
def test_moved_boxes_are_those_of_the_moved_mask(scale: tuple[float, float]) -> None:
    masks, boxes = spots(40)
    draw = torch.Generator().manual_seed(0)
    geometry = random_geometry(40, SIZE, draw, Crop(scale, (0.8, 1.25) if scale[0] < 1 else (1.0, 1.0)))
    classes = torch.arange(3).expand(40, 3)
    moved, kept = move_boxes(geometry, boxes, classes, visible=1e-6)
    found = geometry.apply(masks) >= 0.5
    compared = 0
    for number in range(40):
        there = parts_of(found[number, 0].numpy())[1]
        for box in moved[number][kept[number] >= 0].numpy():
            if (box[2:] - box[:2]).min() > 2:
                assert np.abs(there - box).max(axis=1).min() <= (1e-4 if scale[0] == 1 else 1.0)
                compared += 1
        assert len(there) <= (kept[number] >= 0).sum()
    assert compared > 60
    assert (kept >= 0).all() == (scale[0] == 1)


def test_boxes_are_cut_and_dropped_by_what_stays_visible() -> None:
    geometry = random_geometry(1, SIZE, torch.Generator().manual_seed(0), Crop((0.25, 0.25), (1, 1), False, False))
    top, left, height, _ = geometry.boxes[0].tolist()
    assert height == pytest.approx(32)
    inside = torch.tensor(
        [[[left - 6, top, left + 2, top + 8], [left - 5.9, top, left + 2.1, top + 8], [0.0, 0, 0, 0]]]
    )
    moved, kept = move_boxes(geometry, inside, torch.tensor([[1, 2, -1]]), visible=0.25)
    assert kept[0].tolist()[1:] == [2, -1]
    torch.testing.assert_close(moved[0, 1], torch.tensor([0.0, 0.0, 4.2, 16.0]))
    assert moved[0, 2].tolist() == [0, 0, 0, 0]
    assert move_boxes(geometry, inside, torch.tensor([[1, 2, -1]]), visible=0.27)[1].tolist() == [[-1, -1, -1]]


def test_parts_move_with_their_picture() -> None:
    masks, boxes = spots(20)
    parts = torch.stack([torch.from_numpy(parts_of(mask[0].numpy())[0]) for mask in masks]).unsqueeze(1)
    assert torch.equal(boxes_of_parts(parts, 5)[:, :3], boxes)
    assert not boxes_of_parts(parts, 5)[:, 3:].any()
    geometry = random_geometry(20, SIZE, torch.Generator().manual_seed(1), Crop((1.0, 1.0), (1.0, 1.0)))
    moved = move_parts(geometry, parts)
    assert torch.equal((moved > 0).float(), geometry.apply(masks).round())
    assert torch.equal(boxes_of_parts(moved, 3), move_boxes(geometry, boxes, torch.zeros(20, 3).long())[0].round())
