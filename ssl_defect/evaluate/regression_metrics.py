"""What a regression is judged by: how far its values are from the grades or areas, and whether they rank alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.evaluate.bootstrap import intervals
from ssl_defect.evaluate.metrics import Array, Family, divide
from ssl_defect.evaluate.results import Results
from ssl_defect.nets.detector import Spec

NAMES = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R2, the share of variance explained",
    "spearman": "Spearman's rank correlation",
}


def measure(results: Results, spec: Spec) -> dict[str, Any] | None:
    """The block "task" of `metrics.json`; None where no test image has a value to compare with."""
    truth = true_values(results, spec.options["target"])
    known = np.isfinite(truth)
    if not known.any():
        return None
    values = results.found.others["value"][results.split :].astype(np.float64)[known]
    family = value_family(truth[known], values)
    left = len(truth) - int(known.sum())
    return {
        "title": f"Regression of the {spec.options['target']}",
        "names": NAMES,
        "metrics": intervals(family, results.groups[known], results.spec),
        "classes": {},
        "note": f"{left} test images without a {spec.options['target']} are left out." if left else "",
    }


def true_values(results: Results, target: str) -> Array:
    """(n_test,) grade or area of the test images, NaN where it is not known."""
    samples = [results.store.samples[row] for row in results.test]
    if target == "grade":
        return np.array([np.nan if sample.grade is None else sample.grade for sample in samples])
    return np.array([np.nan if sample.label and not sample.area else sample.area for sample in samples])


def value_family(truth: Array, values: Array) -> Family:
    """MAE, RMSE, R2 and Spearman of values (n,) against the truth (n,), as a function of the images' weights."""
    error = values - truth

    def family(weights: Array) -> dict[str, Array]:
        weights = np.asarray(weights, np.float64)
        total = weights.sum(axis=1)
        squares = weights @ error**2
        mean = divide(weights @ truth, total)
        spread = weights @ truth**2 - total * mean**2
        spread = np.where(spread > 1e-9 * total, spread, 0)  # rounding is no spread
        return {
            "mae": divide(weights @ np.abs(error), total),
            "rmse": np.sqrt(divide(squares, total)),
            "r2": 1 - divide(squares, spread),
            "spearman": correlation(weights, ranks(weights, truth), ranks(weights, values)),
        }

    return family


def ranks(weights: Array, values: Array) -> Array:
    """(D, n) mean rank of each of n values in each of D draws in which it occurs `weights` (D, n) times."""
    _, inverse = np.unique(values, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))
    tied = np.add.reduceat(weights[:, order], starts, axis=1)
    below = np.cumsum(tied, axis=1) - tied
    found: Array = (below + (tied + 1) / 2)[:, inverse]
    return found


def correlation(weights: Array, a: Array, b: Array) -> Array:
    """(D,) weighted Pearson correlation of `a` and `b` (D, n); NaN where one of them is constant."""
    total = weights.sum(axis=1, keepdims=True)
    a, b = (x - divide((weights * x).sum(axis=1, keepdims=True), total) for x in (a, b))
    variances = (weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1)
    return divide((weights * a * b).sum(axis=1), np.sqrt(variances))
