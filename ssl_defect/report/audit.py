"""What the audit of the raw pictures found."""

from __future__ import annotations

from typing import Any

from ssl_defect.data.records import GOOD
from ssl_defect.report import oddities
from ssl_defect.report.numbers import share
from ssl_defect.report.records import RunRecords

TELLING = 0.9  # AUROC from which a number of the whole picture is worth a warning
SPLITS = ("train", "val", "test")


def section(records: RunRecords) -> dict[str, Any]:
    """Counts, near-copies, leaks and everything that was unusual."""
    audit = records.audit
    copies = audit.get("copies") or {}
    return {
        "usable": audit["usable"],
        "classes": _classes(audit),
        "splits": SPLITS,
        "totals": {name: sum((audit["splits"].get(name) or {}).values()) for name in SPLITS},
        "copies": copies,
        "searched": records.recipe.data.copies,
        "sizes_of_groups": _bars(copies.get("sizes") or {}),
        "strips": oddities.copies(records),
        "leaks": oddities.leaks(records),
        "mixed": copies.get("mixed_labels") or [],
        "leak": _leak(audit.get("leak") or {}),
        "set_aside": audit.get("set_aside") or [],
        "empty_masks": audit.get("empty_masks") or [],
        "empty_rule": records.recipe.data.empty_masks,
        "odd": audit.get("odd") or [],
        "sizes": audit.get("sizes") or {},
        "pictures": {
            "empty": oddities.empty_masks(records),
            "odd": oddities.odd(records),
            "sizes": oddities.sizes(records),
        },
        "mask_rule": audit.get("mask_rule") or "",
        "shortcuts": _shortcuts(audit.get("shortcuts") or {}),
    }


def _classes(audit: dict[str, Any]) -> list[dict[str, Any]]:
    counts: dict[str, int] = audit["counts"]
    most = max([1, *counts.values()])
    names = sorted(counts, key=lambda name: (name != GOOD, name))
    return [
        {
            "name": name,
            "found": counts[name],
            "bar": counts[name] / most,
            "splits": [(audit["splits"].get(split) or {}).get(name, 0) for split in SPLITS],
        }
        for name in names
    ]


def _bars(sizes: dict[str, int]) -> list[dict[str, Any]]:
    """Number of groups by their size; groups past ten are put together."""
    merged: dict[str, int] = {}
    for size in sorted(sizes, key=int):
        name = size if int(size) <= 10 else "more"
        merged[name] = merged.get(name, 0) + sizes[size]
    most = max([1, *merged.values()])
    return [{"size": name, "groups": count, "bar": count / most} for name, count in merged.items()]


def _leak(leak: dict[str, Any]) -> list[dict[str, Any]]:
    names = (("random_split_share", "a random split"), ("this_split_share", "this run's split"))
    return [
        {"name": name, "share": leak[key], "text": share(leak[key])} for key, name in names if leak.get(key) is not None
    ]


def telling(found: dict[str, dict[str, float | None]]) -> list[str]:
    """Names of the numbers of the whole picture that alone tell defective test images from good ones."""
    return [name for name, values in found.items() if _tells(values.get("test"))]


def _tells(auroc: float | None) -> bool:
    return auroc is not None and max(auroc, 1 - auroc) >= TELLING


def _shortcuts(found: dict[str, dict[str, float | None]]) -> list[str]:
    """A sentence for each number of the whole picture that tells more than it should."""
    said = []
    for name, values in found.items():
        test, drift = values.get("test"), values.get("drift")
        if test is not None and _tells(test):
            more = "more" if test > 0.5 else "less"
            said.append(
                f"The {name} of the whole picture alone tells the defective test images from the good ones "
                f"(AUROC {max(test, 1 - test):.3f}, defective ones have {more} of it): a detector may learn the light "
                "instead of the defect."
            )
        if drift is not None and _tells(drift):
            more = "more" if drift > 0.5 else "less"
            said.append(
                f"Good test images have {more} {name} than good training images (AUROC "
                f"{max(drift, 1 - drift):.3f}): they were not taken under the same light."
            )
    return said
