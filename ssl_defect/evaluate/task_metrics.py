"""What only one task is judged by, beside the metrics of images and pixels that all share."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ssl_defect.evaluate import TASK_METRICS
from ssl_defect.evaluate.results import Results
from ssl_defect.nets.detector import Spec


def task_metrics(results: Results, spec: Spec) -> dict[str, Any] | None:
    """The block "task" of `metrics.json`; None for a task without metrics of its own."""
    if spec.task not in TASK_METRICS:
        return None
    found: dict[str, Any] | None = import_module(TASK_METRICS[spec.task]).measure(results, spec)
    return found
