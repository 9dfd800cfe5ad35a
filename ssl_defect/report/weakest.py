"""The defect class that escapes most, and what its labels have to do with it."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ssl_defect.report.advice import FEW_OF_CLASS
from ssl_defect.report.numbers import counted, hooked, interval, share
from ssl_defect.report.records import RunRecords

FOUND = 0.95  # recall of a class above which it needs no help
NONE = Markup("")


def weakest(records: RunRecords) -> Markup:
    """The class of least recall: its interval, on how many images, and whether it is shown to lie below the whole."""
    classes = records.metrics.get("classes") or {}
    recalls = {name: facts["image"]["recall"] for name, facts in classes.items() if facts["images"] >= FEW_OF_CLASS}
    known = [name for name, recall in recalls.items() if recall["value"] is not None]
    name = min(known, key=lambda one: (recalls[one]["value"], one), default="")
    if len(known) < 2 or recalls[name]["value"] > FOUND:
        return NONE
    recall, path = recalls[name], f"classes.{name}.image.recall"
    groups = len({one.group for one in records.predictions if one.defect == name})
    return Markup("{} of all classes it escapes most: {} found{}, on {} in {}{}.").format(
        _more_of(name, records),
        hooked(f"{path}.value", recall["value"], share(recall["value"])),
        _between(path, recall),
        counted(classes[name]["images"], "test image"),
        counted(groups, "group"),
        _is_below(recall, records.metrics["image"]["recall"]),
    )


def _between(path: str, entry: dict[str, Any]) -> Markup:
    if entry["low"] is None:
        return NONE
    return Markup(" ({})").format(interval(path, entry, as_share=True))


def _is_below(one: dict[str, Any], whole: dict[str, Any]) -> str:
    if one["high"] is None or whole["value"] is None or one["high"] < whole["value"]:
        return ""
    return f"; its interval still holds the {share(whole['value'])} of all, so this may be chance"


def _more_of(name: str, records: RunRecords) -> Markup:
    used = (records.finetune.get("labels") or {}).get(name)
    if records.metrics["protocol"]["task"] == "anomaly" or used is None:
        text = "Look at <strong>{}</strong> first, as this detector does not learn from its labels:"
        return Markup(text).format(name)
    spare = (records.audit["splits"].get("train") or {}).get(name, 0) - used
    if spare > 0:
        text = "Use more labels of <strong>{}</strong> (finetune.labels_per_class): {} had theirs used and {} not;"
        return Markup(text).format(name, counted(used, "training image"), f"{spare:,}")
    return Markup("Label more of <strong>{}</strong>, which was trained with {}:").format(name, counted(used, "label"))
