"""Which module measures what only one task is judged by; imported by name, when it is asked for."""

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
