"""What only one task is judged by, beside the metrics of images and pixels that all share."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ssl_defect.evaluate.results import Results
from ssl_defect.nets.detector import Spec

TASK_METRICS: dict[str, str] = {
    "classification": "ssl_defect.evaluate.class_metrics",
    "detection": "ssl_defect.evaluate.detection_metrics",
    "instance": "ssl_defect.evaluate.detection_metrics",
    "regression": "ssl_defect.evaluate.regression_metrics",
    "segmentation": "ssl_defect.evaluate.class_map_metrics",
}
"""Task -> module with `measure(results, spec) -> dict | None`.

The dict holds "title"; "names" {metric: what a reader calls it}; "metrics" {metric: {"value", "low", "high"}};
"classes" {class: {metric: {"value", "low", "high"}}}, which may be empty; and "note", a sentence or "".
"""


def task_metrics(results: Results, spec: Spec) -> dict[str, Any] | None:
    """The block "task" of `metrics.json`; None for a task without metrics of its own."""
    if spec.task not in TASK_METRICS:
        return None
    found: dict[str, Any] | None = import_module(TASK_METRICS[spec.task]).measure(results, spec)
    return found
