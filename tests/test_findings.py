"""What is told of a picture beyond good or defective."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_defect.findings import box_edges, finding
from ssl_defect.nets.detector import Spec
from ssl_defect.overlays import EDGE, draw_overlay


def spec(task: str, *classes: str) -> Spec:
    return Spec(task, "resnet18", 50, 1, ["good", *classes])


def test_a_class_is_told_where_there_are_several() -> None:
    several = spec("classification", "crack", "spot")
    assert finding(several, {"probabilities": np.array([0.2, 0.1, 0.7])}, 0.5, 9, 9) == "spot"
    two = spec("classification", "defective")
    assert finding(two, {"probabilities": np.array([0.2, 0.8])}, 0.5, 9, 9) == ""


def test_labels_from_one_half_on() -> None:
    labels = {"labels": np.array([0.5, 0.49, 0.9])}
    assert finding(spec("classification", "crack", "dust", "spot"), labels, 0.5, 9, 9) == "crack+spot"


def test_a_value() -> None:
    outputs = {"value": np.float32(1 / 3), "score": np.float32(0.9)}
    assert finding(spec("regression", "defective"), outputs, 0.5, 9, 9) == "0.3333"


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 2), (0.5, 1), (0.95, 0)])
def test_boxes_come_in_pixels_of_the_picture_the_best_first(threshold: float, count: int) -> None:
    outputs = {
        "boxes": np.array([[5.0, 10, 15, 20], [0, 0, 25, 50], [0, 0, 0, 0]]),
        "box_scores": np.array([0.4, 0.9, 0.0]),
        "box_classes": np.array([1, 2, 0]),
    }
    told = finding(spec("detection", "crack", "spot"), outputs, threshold, 100, 200)
    both = ["0.0 0.0 50.0 200.0 spot 0.900", "10.0 40.0 30.0 80.0 crack 0.400"]
    assert told == "; ".join(both[:count])


def test_boxes_are_drawn_in_place_of_the_contour() -> None:
    pixels = np.full((40, 80, 1), 100, np.uint8)
    heat = np.zeros((20, 20), np.float32)
    edges = box_edges(
        spec("detection", "spot"), {"boxes": np.array([[10.0, 10, 30, 40]]), "box_scores": np.ones(1)}, 0.5
    )
    assert edges is not None
    drawn = draw_overlay(pixels, heat, np.ones((20, 20), bool), edges)
    marked = (drawn == EDGE).all(axis=2)
    assert marked[8, 16:48].all()
    assert marked[8:32, 16].all()
    assert marked[31, 16:48].all()
    assert marked[8:32, 47].all()
    assert marked.sum() == 2 * 32 + 2 * 22
    assert box_edges(spec("regression", "defective"), {"value": np.float32(0.5)}, 0.5) is None
