"""ROC, precision-recall and PRO with their bands, of all test images and of each defect class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssl_defect.report.figures import Pairs, Series, curve, small_curve
from ssl_defect.report.numbers import metric, whole
from ssl_defect.report.records import RunRecords

AXES = ("false-positive rate", "true-positive rate")
DIAGONAL = ((0.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True)
class Kind:
    """A curve of curves.json: its title, the names of its axes there and on the page, and its area in metrics.json."""

    title: str
    keys: tuple[str, str]
    axes: tuple[str, str]
    block: str
    area: tuple[str, str]


KINDS = {
    "roc": Kind("ROC", ("fpr", "tpr"), AXES, "image", ("auroc", "AUROC")),
    "pr": Kind("Precision-recall", ("recall", "precision"), ("recall", "precision"), "image", ("ap", "AP")),
    "pixel_roc": Kind("ROC of pixels", ("fpr", "tpr"), AXES, "pixel", ("auroc", "AUROC")),
    "pixel_pr": Kind(
        "Precision-recall of pixels", ("recall", "precision"), ("recall", "precision"), "pixel", ("ap", "AP")
    ),
    "pro": Kind(
        "Per-region overlap",
        ("fpr", "pro"),
        ("false-positive rate of pixels", "mean overlap of regions"),
        "pixel",
        ("aupro", "AUPRO"),
    ),
}
OF_CLASSES = ("roc", "pr", "pro")


def section(records: RunRecords) -> dict[str, Any]:
    """Every curve that there is, large ones of all images and small ones of each class."""
    curves, metrics = records.curves, records.metrics
    found = [_large(key, curves, metrics) for key in KINDS]
    return {"all": [one for one in found if one], "classes": _classes(curves, metrics)}


def _large(key: str, curves: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any] | None:
    kind = KINDS[key]
    series = _series(key, curves, metrics)
    block = metrics.get(kind.block)
    if not series or not block:
        return None
    marks, chance = (_marks(metrics), _chance(metrics)) if kind.block == "image" else ({}, {"pixel_roc": DIAGONAL})
    alt = f"{kind.title} curve: {kind.axes[1]} against {kind.axes[0]}"
    name, said = kind.area
    return {
        "title": kind.title,
        "figure": curve(series, kind.axes, alt, marks.get(key, ()), chance.get(key, ())),
        "area": said,
        "cell": metric(f"{kind.block}.{name}", block[name]),
        "marked": bool(marks.get(key)),
        "band": bool(series.band),
    }


def _series(key: str, curves: dict[str, Any], metrics: dict[str, Any]) -> Series | None:
    """A curve with its band; that of overlap up to the limit of AUPRO."""
    data, (across, up) = curves.get(key), KINDS[key].keys
    if not data or not data[across]:
        return None
    spread = (curves.get("bands") or {}).get(key)
    band = (spread[across], spread["low"], spread["high"]) if spread else None
    end = (metrics.get("pixel") or {}).get("aupro_limit") or 1.0 if key == "pro" else 1.0
    xs, ys = _until(data[across], data[up], end)
    return Series(xs, ys, "s0", band=band, end=end)


def _until(xs: Sequence[float], ys: Sequence[float], end: float) -> tuple[Sequence[float], Sequence[float]]:
    """The part of a curve up to `end`, cut between its points."""
    inside = next((i for i, x in enumerate(xs) if x > end), len(xs))
    if inside in (0, len(xs)):
        return xs, ys
    part = (end - xs[inside - 1]) / (xs[inside] - xs[inside - 1])
    last = ys[inside - 1] + part * (ys[inside] - ys[inside - 1])
    return [*xs[:inside], end], [*ys[:inside], last]


def _marks(metrics: dict[str, Any]) -> dict[str, Pairs]:
    """The operating point on ROC and precision-recall."""
    cells = metrics["image"]["confusion"]
    good, bad, alarms = cells["tn"] + cells["fp"], cells["tp"] + cells["fn"], cells["tp"] + cells["fp"]
    found: dict[str, Pairs] = {}
    if good and bad:
        found["roc"] = [(cells["fp"] / good, cells["tp"] / bad)]
    if bad and alarms:
        found["pr"] = [(cells["tp"] / bad, cells["tp"] / alarms)]
    return found


def _chance(metrics: dict[str, Any]) -> dict[str, Pairs]:
    cells = metrics["image"]["confusion"]
    bad, total = cells["tp"] + cells["fn"], sum(cells.values())
    floor = bad / total if total else 0.0
    return {"roc": DIAGONAL, "pr": [(0.0, floor), (1.0, floor)]}


def _classes(curves: dict[str, Any], metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Small curves of each class against all good images; none in records of before, or of a single class."""
    blocks = metrics.get("classes") or {}
    every = {name: one for name, one in (curves.get("classes") or {}).items() if name in blocks}
    if len(every) < 2:
        return []
    beside = {key: _series(key, curves, metrics) for key in ("roc", "pro")}  # precision hangs on the share of defects
    found = []
    for name, data in every.items():
        figures = [_small(key, data, beside.get(key), metrics, name) for key in OF_CLASSES]
        images = whole(f"classes.{name}.images", blocks[name]["images"])
        found.append({"name": name, "images": images, "figures": [one for one in figures if one]})
    return [one for one in found if one["figures"]]


def _small(
    key: str, data: dict[str, Any], beside: Series | None, metrics: dict[str, Any], name: str
) -> dict[str, Any] | None:
    kind, facts = KINDS[key], metrics["classes"][name]
    series = _series(key, data, metrics)
    block = facts.get(kind.block)
    if not series or not block:
        return None
    area, said = kind.area
    alt = f"{kind.title} curve of {name}: {kind.axes[1]} against {kind.axes[0]}"
    marks = [(x, facts["image"]["recall"]["value"]) for x, _ in _marks(metrics).get(key, ()) if key == "roc"]
    return {
        "title": kind.title,
        "figure": small_curve(series, beside or Series([], []), alt, [one for one in marks if one[1] is not None]),
        "area": said,
        "cell": metric(f"classes.{name}.{kind.block}.{area}", block.get(area)),
    }
