"""Embeddings, learning curves and pictures of the pretraining."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ssl_defect.report.figures import Series, history, scatter
from ssl_defect.report.pictures import data_uri
from ssl_defect.report.records import RunRecords
from ssl_defect.report.svg import swatch
from ssl_defect.report.verdict import WITHOUT, method_name

PROJECTIONS = (("pca", "PCA"), ("tsne", "t-SNE"), ("umap", "UMAP"))
CLASSES = 24  # as many classes as colour and shape together can tell apart
STRIPS = 8
ROWS = {
    "simclr": {2: ("one view", "another view"), 3: ("picture", "one view", "another view")},
    "mae": {2: ("seen", "rebuilt"), 3: ("picture", "seen by the encoder", "rebuilt")},
}
History = list[dict[str, float | None]]


def embeddings(records: RunRecords) -> dict[str, Any]:
    """The projections of the test images, and the legend."""
    rows = records.embeddings
    if not rows:
        turned_off = not records.recipe.evaluate.embeddings
        why = "they are turned off in the recipe (evaluate.embeddings)" if turned_off else "evaluate left none"
        return {"why": why, "figures": []}
    classes = [name for name in records.store.classes if any(row["defect"] == name for row in rows)]
    shown = classes[:CLASSES]
    wrong = {str(one.row) for one in records.predictions if not one.correct}
    figures = [
        {"name": name, "figure": _projection(rows, key, shown, wrong)}
        for key, name in PROJECTIONS
        if rows[0].get(f"{key}_x")
    ]
    return {
        "figures": figures,
        "legend": [(name, swatch(index)) for index, name in enumerate(shown)],
        "left_out": len(classes) - len(shown),
        "count": len(rows),
        "wrong": any(row["row"] in wrong for row in rows),
        "why": "" if figures else "evaluate left none",
    }


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
    alt = f"{name} of the detector's features of {len(rows)} test images, by class: {', '.join(classes)}"
    return scatter(list(clouds.values()), rings, alt)


def section(records: RunRecords) -> dict[str, Any]:
    """Curves of both trainings, and what pretraining saw."""
    pretrain, finetune = records.pretrain_history, records.finetune_history
    before = (records.pretrain.get("probe") or {}).get("before")
    probe = (records.pretrain.get("probe") or {}).get("metric") or "probe"
    validation = records.finetune.get("validation_metric") or "validation"
    figures = [
        _figure("Pretraining: loss", (pretrain, "epoch", "loss"), ("epoch", "loss"), "s0"),
        _figure(f"Pretraining: {probe}", (pretrain, "epoch", "probe"), ("epoch", "probe"), "s1", before),
        _figure("Fine-tuning: loss", (finetune, "step", "loss"), ("step", "loss"), "s0"),
        _figure(f"Fine-tuning: {validation}", (finetune, "step", "validation"), ("step", validation), "s1"),
    ]
    return {
        "figures": [figure for figure in figures if figure],
        "why_no_pretraining": _why(records),
        "views": _views(records),
        "facts": _facts(records),
    }


def _figure(
    title: str, source: tuple[History, str, str], labels: tuple[str, str], style: str, before: float | None = None
) -> dict[str, Any] | None:
    rows, across, up = source
    points = [(row[across], row[up]) for row in rows if row.get(across) is not None and row.get(up) is not None]
    pairs = [(x, y) for x, y in points if x is not None and y is not None]
    if before is not None and pairs and pairs[0][0] > 0:
        pairs.insert(0, (0.0, before))
    if not pairs:
        return None
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    alt = f"{title}: from {ys[0]:.3f} to {ys[-1]:.3f} over {xs[-1]:g} {labels[0]}s"
    return {"title": title, "figure": history([Series(xs, ys, style)], labels, alt)}


def _why(records: RunRecords) -> str:
    method = records.pretrain["method"]
    if method in WITHOUT:
        return f"There was no pretraining to draw: the method is `{method}`."
    return "" if records.pretrain_history else "Pretraining left no history to draw."


def _views(records: RunRecords) -> dict[str, Any]:
    method = records.pretrain["method"]
    if records.views is None or not len(records.views):
        return {"why": "" if method in WITHOUT else "pretraining left no pictures", "rows": []}
    strips = records.views[:STRIPS]
    count = strips.shape[1]
    names = ROWS.get(method, {}).get(count) or tuple(f"picture {number}" for number in range(1, count + 1))
    rows = [
        {"name": name, "uris": [data_uri(strip[number], side=128, quality=75) for strip in strips]}
        for number, name in enumerate(names)
    ]
    return {"method": method_name(method), "rows": rows, "why": ""}


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
