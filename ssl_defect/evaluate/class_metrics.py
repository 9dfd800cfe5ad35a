"""What a classifier is judged by whose images have exactly one of several classes: each class, and their mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.evaluate import label_metrics
from ssl_defect.evaluate.bootstrap import intervals
from ssl_defect.evaluate.metrics import Array, Family, divide
from ssl_defect.evaluate.results import Results
from ssl_defect.nets.detector import Spec

NAMES = {
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "balanced_accuracy": "balanced accuracy, the mean recall of the classes",
    "macro_f1": "mean F1 of the classes",
}


def measure(results: Results, spec: Spec) -> dict[str, Any] | None:
    """The block "task" of `metrics.json`; of several labels that of `label_metrics`, None where there are two classes.

    An image is of its likeliest class. One of a class unknown in training is a mistake for the class that it is taken
    for, and none of the means counts its own class.
    """
    if spec.options.get("target") == "labels":
        return label_metrics.measure(results, spec)
    if results.found.probabilities is None or len(spec.classes) < 3:
        return None
    found = results.found.probabilities[results.split :].argmax(axis=1)
    number = {name: i for i, name in enumerate(spec.classes)}
    truth = np.array([number.get(name, -1) for name in results.defects])
    there = [i for i in range(len(number)) if (truth == i).any()]
    unknown = int((truth < 0).sum())
    return {
        "title": "Classes",
        "names": NAMES,
        "metrics": intervals(mean_family(truth, found, there), results.groups, results.spec),
        "classes": {
            name: intervals(class_family(truth == i, found == i), results.groups, results.spec)
            for name, i in number.items()
        },
        "note": f"{unknown} test images are of a class unknown in training." if unknown else "",
    }


def class_family(truth: Array, found: Array) -> Family:
    """Recall, precision and F1 of one class: truth and found (n,) bool; NaN where undefined."""

    def family(weights: Array) -> dict[str, Array]:
        drawn = np.asarray(weights, np.float64)
        hit, real, called = (drawn @ which.astype(np.float64) for which in (truth & found, truth, found))
        f1 = np.where(real > 0, divide(2 * hit, real + called), np.nan)
        return {"recall": divide(hit, real), "precision": divide(hit, called), "f1": f1}

    return family


def mean_family(truth: Array, found: Array, classes: list[int]) -> Family:
    """Mean recall and F1 of `classes`: truth and found (n,) numbers; NaN where a draw lacks one of them."""
    families = [class_family(truth == i, found == i) for i in classes]

    def family(weights: Array) -> dict[str, Array]:
        parts = [one(weights) for one in families]
        return {
            "balanced_accuracy": np.mean([part["recall"] for part in parts], axis=0),
            "macro_f1": np.mean([part["f1"] for part in parts], axis=0),
        }

    return family
