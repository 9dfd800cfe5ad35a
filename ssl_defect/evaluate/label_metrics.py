"""What a classifier is judged by whose images may have several labels: each label alone, and their mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.data.records import GOOD
from ssl_defect.evaluate.bootstrap import intervals
from ssl_defect.evaluate.metrics import Array, Family, auroc, average_precision, counts_at_levels
from ssl_defect.evaluate.results import Results
from ssl_defect.nets.detector import Spec
from ssl_defect.nets.heads import SEPARATOR

NAMES = {"ap": "average precision", "auroc": "AUROC", "mean_ap": "mean average precision", "mean_auroc": "mean AUROC"}


def measure(results: Results, spec: Spec) -> dict[str, Any] | None:
    """The block "task" of `metrics.json`; None for classes of which an image has exactly one."""
    if spec.options.get("target") != "labels":
        return None
    names = [name for name in spec.classes if name != GOOD]
    truth = np.array([[name in defect.split(SEPARATOR) for name in names] for defect in results.defects])
    values = results.found.others["labels"][results.split :]
    found = {
        name: intervals(label_family(truth[:, i], values[:, i]), results.groups, results.spec)
        for i, name in enumerate(names)
    }
    told = [i for i in range(len(names)) if 0 < truth[:, i].sum() < len(truth)]
    missing = [name for i, name in enumerate(names) if i not in told]
    return {
        "title": "Labels",
        "names": NAMES,
        "metrics": intervals(mean_family(truth[:, told], values[:, told]), results.groups, results.spec),
        "classes": found,
        "note": f"The means leave out {', '.join(missing)}: no test image has it, or all have." if missing else "",
    }


def label_family(truth: Array, values: Array) -> Family:
    """Average precision and AUROC of one label: truth (n,) bool, values (n,)."""

    def family(weights: Array) -> dict[str, Array]:
        tp, fp, _ = counts_at_levels(truth, values, weights)
        return {"ap": average_precision(tp, fp), "auroc": auroc(tp, fp)}

    return family


def mean_family(truth: Array, values: Array) -> Family:
    """Their mean over the labels: truth and values (n, K); NaN where a draw leaves one undefined, or K is 0."""
    families = [label_family(truth[:, i], values[:, i]) for i in range(truth.shape[1])]

    def family(weights: Array) -> dict[str, Array]:
        if not families:
            return {name: np.full(len(weights), np.nan) for name in ("mean_ap", "mean_auroc")}
        found = [one(weights) for one in families]
        return {f"mean_{name}": np.mean([one[name] for one in found], axis=0) for name in ("ap", "auroc")}

    return family
