"""What detectors of boxes are made of, against hand-computed values and torchvision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import box_iou

from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detection.architecture import Plan
from ssl_defect.nets.detection.neck import Anchors, Neck, cell_centres
from ssl_defect.nets.detection.one_stage import SSD, hard_cross_entropy
from ssl_defect.nets.detection.paint import inside, paste_masks
from ssl_defect.nets.detection.simota import Cells, assign, class_cost
from ssl_defect.nets.detection.two_stage import FasterRCNN
from ssl_defect.nets.detection.yolox import YOLOX, _relative


@pytest.mark.parametrize(
    ("backbone", "size", "strides"),
    [("test_resnet", 64, [4, 8, 16, 32]), ("test_resnet", 50, [4, 8, 16, 32]), ("test_vit", 64, [4, 8, 16, 32])],
)
def test_levels_lie_at_their_strides(backbone: str, size: int, strides: list[float]) -> None:
    encoder = build_encoder(backbone, size)
    neck = Neck(encoder, 32)
    levels = neck(encoder.pyramid(torch.zeros(1, 3, size, size)))
    assert neck.strides == strides
    assert [level.shape for level in levels] == [(1, 32, math.ceil(size / s), math.ceil(size / s)) for s in strides]


def test_anchors_by_hand() -> None:
    level = torch.zeros(2, 8, 2, 3)
    found = Anchors([7.0], (1.0, 2.0), (1.0, 4.0))(ImageList(level, [(14, 21)] * 2), [level])
    assert len(found) == 2
    first = [[0, 0, 7, 7], [-3.5, -3.5, 10.5, 10.5], [1.75, -3.5, 5.25, 10.5], [0, -10.5, 7, 17.5]]
    torch.testing.assert_close(found[0][:4], torch.tensor(first))
    torch.testing.assert_close(found[0][4:8], torch.tensor(first) + torch.tensor([7.0, 0, 7, 0]))
    assert found[0].shape == (24, 4)
    assert cell_centres(level, 7.0).tolist() == [
        [3.5, 3.5],
        [10.5, 3.5],
        [17.5, 3.5],
        [3.5, 10.5],
        [10.5, 10.5],
        [17.5, 10.5],
    ]


def plan(**changes: object) -> Plan:
    return Plan(
        **{"classes": 2, "size": 56, "width": 32, "strides": [3.5, 7.0], "threshold": 0.0, "nms": 0.5, "most": 5}
        | changes
    )


def test_proposals_are_pooled_at_their_place_whatever_the_stride() -> None:
    pool = FasterRCNN(plan()).roi_heads.box_roi_pool
    ramps = {str(i): torch.arange(side).float().expand(1, 1, side, side) for i, side in enumerate((32, 16))}
    pooled = pool(ramps, [torch.tensor([[7.0, 7, 21, 21], [0, 0, 98, 98]])], [(112, 112)])
    assert pooled[0].mean().item() == pytest.approx(14 / 3.5)  # a small box, in the finer level
    assert pooled[1].mean().item() == pytest.approx(49 / 7)  # the large one in the coarser


def test_hard_negatives_by_hand() -> None:
    logits = torch.tensor([[[0.0, 2.0], [0.0, 1.0], [0.0, -3.0]], [[0.0, 0.5], [0.0, -9.0], [0.0, -8.0]]])
    labels = torch.tensor([[1, 0, 0], [0, 0, 0]])
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    expected = (
        each.sum() / 2
    )  # one positive, counted as two for two pictures: six negatives at most, and five are there
    torch.testing.assert_close(hard_cross_entropy(logits, labels), expected)
    many = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    each = F.cross_entropy(many.flatten(0, 1), torch.zeros(100).long(), reduction="none")
    torch.testing.assert_close(hard_cross_entropy(many, torch.zeros(2, 50).long()), each.sort().values[-6:].sum() / 2)


def test_ssd_begins_near_its_background() -> None:
    levels = [torch.randn(1, 32, 4, 4), torch.randn(1, 32, 2, 2)]
    assert SSD(plan()).model.head(levels)["cls_logits"].abs().max() < 2


def test_simota_by_hand() -> None:
    """Four cells in a row; overlaps with the left defect 1, 1, 0, 0 and with the right one 0, 0, 1, 0.5."""
    centres = torch.tensor([[4.0, 4], [12, 4], [20, 4], [28, 4]])
    boxes = torch.tensor([[0.0, 0, 16, 8], [0, 0, 16, 8], [16, 0, 32, 8], [24, 0, 32, 8]])
    true = torch.tensor([[0.0, 0, 16, 8], [16, 0, 32, 8]])
    cells = Cells(boxes, torch.full((4, 1), 0.25), centres, torch.full((4,), 8.0))
    matched, overlaps = assign(cells, true, torch.tensor([0, 0]))
    assert matched.tolist() == [0, 0, 1, -1]  # the overlaps add up to 2 and to 1.5: two cells and one
    assert overlaps.tolist() == [1, 1, 1, 0]
    assert assign(cells, true[:0], torch.zeros(0).long())[0].tolist() == [-1] * 4
    wanted_by_both = Cells(torch.tensor([[0.0, 0, 32, 8]] * 4), torch.full((4, 1), 0.25), centres + 0, cells.strides)
    matched, overlaps = assign(wanted_by_both, true, torch.tensor([0, 0]))
    assert matched.tolist() == [0, 0, 1, 1]  # each overlaps both by a half, but lies inside one alone
    assert overlaps.tolist() == [0.5] * 4


def test_a_cell_outside_the_box_is_taken_where_none_is_inside() -> None:
    centres = torch.tensor([[4.0, 4], [12, 4], [60, 4]])
    cells = Cells(torch.tensor([[3.0, 3, 7, 7]] * 3), torch.full((3, 1), 0.5), centres, torch.full((3,), 8.0))
    matched, _ = assign(cells, torch.tensor([[6.0, 6, 7, 7]]), torch.tensor([0]))
    assert matched.tolist() == [0, -1, -1]


def test_simota_against_plain_loops() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        centres = cell_centres(torch.zeros(1, 1, 6, 6), 8.0)
        size = 4 + 16 * torch.rand(36, 2, generator=draw)
        boxes = torch.cat([centres - size / 2, centres + size / 2], dim=1) + torch.randn(36, 4, generator=draw)
        corner = 30 * torch.rand(3, 2, generator=draw)
        true = torch.cat([corner, corner + 2 + 16 * torch.rand(3, 2, generator=draw)], dim=1)
        labels = torch.randint(0, 2, (3,), generator=draw)
        cells = Cells(boxes, torch.rand(36, 2, generator=draw), centres, torch.full((36,), 8.0))
        matched, _ = assign(cells, true, labels)
        assert matched.tolist() == by_loops(cells, true, labels)


def by_loops(cells: Cells, true: torch.Tensor, labels: torch.Tensor) -> list[int]:
    overlaps, costs = box_iou(true, cells.boxes), np.full((len(true), len(cells.boxes)), np.inf)
    usable = np.zeros(len(cells.boxes), bool)
    for g, (x1, y1, x2, y2) in enumerate(true.tolist()):
        for a, (x, y) in enumerate(cells.centres.tolist()):
            within = x1 < x < x2 and y1 < y < y2
            near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < 2.5 * 8
            usable[a] |= within or near
            onehot = F.one_hot(labels[g], 2).float()
            cost = F.binary_cross_entropy(cells.scores[a].sqrt(), onehot, reduction="sum").item()
            cost += -3 * math.log(overlaps[g, a].item() + 1e-8)
            costs[g, a] = cost + (0 if within and near else 1e5)
    costs[:, ~usable] = np.inf
    takers: dict[int, list[int]] = {}
    for g in range(len(true)):
        count = max(1, int(np.sort(overlaps[g].numpy() * usable)[::-1][:10].sum()))
        for a in np.argsort(costs[g])[:count].tolist():
            takers.setdefault(a, []).append(g)
    return [min(takers[a], key=lambda g: costs[g, a]) if a in takers else -1 for a in range(len(cells.boxes))]


def test_class_cost_is_a_cross_entropy() -> None:
    scores, labels = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0])
    for g, label in enumerate(labels):
        target = F.one_hot(label, 3).float().expand(5, -1)
        expected = F.binary_cross_entropy(scores.sqrt(), target, reduction="none").sum(dim=1)
        torch.testing.assert_close(class_cost(scores, labels)[g], expected, atol=1e-5, rtol=1e-5)


def test_yolox_boxes_and_their_inverse() -> None:
    torch.manual_seed(0)
    model = YOLOX(plan(strides=[8.0], size=32))
    out = model.outputs([torch.randn(1, 32, 4, 4)])
    boxes = out.boxes[0]
    torch.testing.assert_close(_relative(boxes, out.centres, out.strides), out.edges[0], atol=1e-4, rtol=1e-4)
    silent = out._replace(edges=torch.zeros_like(out.edges))
    assert silent.boxes[0, 5].tolist() == [8, 8, 16, 16]  # a cell that says nothing is its own box


def test_yolox_losses_of_a_perfect_answer() -> None:
    model = YOLOX(plan(strides=[8.0], size=32, classes=1))
    out = model.outputs([torch.randn(1, 32, 4, 4)])
    sure = torch.full_like(out.objects, -30.0)
    sure[0, 5] = 30
    perfect = out._replace(edges=torch.zeros_like(out.edges), objects=sure, classes=torch.full_like(out.classes, 30.0))
    model.outputs = lambda levels: perfect  # type: ignore[method-assign]
    found = model.compute([], [{"boxes": torch.tensor([[8.0, 8, 16, 16]]), "labels": torch.tensor([1])}])
    assert {name: round(value.item(), 5) for name, value in found.items()} == dict.fromkeys(model.weights, 0)


def test_pixels_inside_a_box() -> None:
    over = inside(torch.tensor([[1.0, 0, 3, 2], [1.4, 1.4, 2.4, 1.6], [2.6, 2.6, 2.9, 2.9], [0, 0, 0, 0]]), 4)
    assert over[0].nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert over[1].nonzero().tolist() == [[1, 1]]
    assert over[2].nonzero().tolist() == [[2, 2]]  # smaller than a pixel, and still seen
    assert not over[3].any()


def test_masks_come_back_to_where_they_were_cut() -> None:
    rng = np.random.default_rng(0)
    parts = torch.zeros(30, 64, 64)
    boxes = torch.zeros(30, 4)
    for number in range(30):
        y, x, height, width = *rng.integers(0, 30, 2), *rng.integers(1, 29, 2)
        shape = rng.random((height, width)) < 0.5 if number % 2 else np.ones((height, width))
        shape[0], shape[:, 0], shape[-1], shape[:, -1] = 1, 1, 1, 1
        parts[number, y : y + height, x : x + width] = torch.from_numpy(shape.astype(np.float32))
        boxes[number] = torch.tensor([x, y, x + width, y + height])
    cut = project_masks_on_boxes(parts, boxes, torch.arange(30), 28)
    again = (paste_masks(cut, boxes, 64) >= 0.5).float()
    overlap = (again * parts).sum(dim=(1, 2)) / torch.maximum(again, parts).sum(dim=(1, 2))
    assert overlap.min() > 0.75  # noise, blurred twice
    assert overlap[::2].min() > 0.99
