"""Embeddings, and the learning curves of both trainings."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ssl_defect.report import embeddings as points
from ssl_defect.report import watching
from ssl_defect.report.figures import scatter
from ssl_defect.report.records import RunRecords
from ssl_defect.report.svg import swatch
from ssl_defect.report.verdict import method_name

PROJECTIONS = (("pca", "PCA"), ("tsne", "t-SNE"), ("umap", "UMAP"))
CLASSES = 24  # as many classes as colour and shape together can tell apart


def embeddings(records: RunRecords) -> dict[str, Any]:
    """The projections of the test images, the snapshots of the pretraining, and the legend of both."""
    rows = records.embeddings or []
    drawn = {row["defect"] for row in rows} | _in_snapshots(records)
    classes = [name for name in records.store.classes if name in drawn]
    shown = classes[:CLASSES]
    wrong = {str(one.row) for one in [*records.predictions, *records.validation] if not one.correct}
    figures = [
        {"name": name, "figure": _projection(rows, key, shown, wrong)}
        for key, name in PROJECTIONS
        if rows and rows[0].get(f"{key}_x")
    ]
    return {
        "figures": figures,
        "legend": [(name, swatch(index)) for index, name in enumerate(shown)],
        "left_out": len(classes) - len(shown),
        "count": len(rows),
        "wrong": any(row["row"] in wrong for row in rows),
        "why": "" if figures else _why_no_embeddings(records),
        "snapshots": watching.snapshots(records, shown),
        **points.section(records, rows if figures else [], shown),
    }


def _in_snapshots(records: RunRecords) -> set[str]:
    return {records.store.samples[row].defect for row in records.snapshots.get("rows", [])}


def _why_no_embeddings(records: RunRecords) -> str:
    turned_off = not records.embeddings and not records.recipe.evaluate.embeddings
    return "they are turned off in the recipe (evaluate.embeddings)" if turned_off else "evaluate left none"


def _projection(rows: list[dict[str, str]], key: str, classes: list[str], wrong: set[str]) -> Markup:
    clouds: dict[str, list[tuple[float, float]]] = {name: [] for name in classes}
    rings = []
    for row in rows:
        if row["defect"] in clouds and row.get(f"{key}_x") and row.get(f"{key}_y"):
            place = (float(row[f"{key}_x"]), float(row[f"{key}_y"]))
            clouds[row["defect"]].append(place)
            if row["row"] in wrong:
                rings.append(place)
    name = dict(PROJECTIONS)[key]
    alt = f"{name} of the detector's features of {len(rows)} images, by class: {', '.join(classes)}"
    return scatter(list(clouds.values()), rings, alt)


def section(records: RunRecords) -> dict[str, Any]:
    """Curves of both trainings, and what pretraining saw."""
    rows, validation = records.finetune_history, records.finetune.get("validation_metric") or "validation"
    figures = [
        *watching.curves(records),
        watching.curve("Fine-tuning: loss", (rows, "step", "loss"), "s0"),
        watching.curve(f"Fine-tuning: {validation}", (rows, "step", "validation"), "s1", names=("step", validation)),
    ]
    return {
        "figures": [figure for figure in figures if figure],
        "health": watching.health(records),
        "warnings": watching.warnings(records),
        "method": method_name(records.pretrain),
        "why_no_pretraining": watching.why_none(records),
        "views": watching.strips(records),
        "facts": [*watching.facts(records), *_facts(records)],
    }


def _facts(records: RunRecords) -> list[tuple[str, str]]:
    facts = records.finetune
    labels = facts.get("labels") or {}
    pairs = [
        ("labelled training images", ", ".join(f"{name} {count}" for name, count in labels.items())),
        ("best step", _text(facts.get("best_step"))),
        ("best validation", _text(facts.get("best_validation"))),
        ("stopped early", "yes" if facts.get("stopped_early") else "no"),
        ("losses", _losses(facts.get("losses"))),
    ]
    return [(name, text) for name, text in pairs if text]


def _losses(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(weight)}" for name, weight in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
