"""The test images as the encoder saw them before fine-tuning, beside what the detector sees."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ssl_defect.report.figures import scatter
from ssl_defect.report.numbers import hooked, shown, whole

PROJECTIONS = (("pca", "PCA"), ("tsne", "t-SNE"), ("umap", "UMAP"))
Point = tuple[float, float]


def figures(rows: list[dict[str, str]], classes: list[str], wrong: set[int]) -> dict[str, Markup]:
    """By the name of the projection, a map like that of the detector's features: the same images in the same order.

    Args:
        rows: of embeddings.csv; without the columns `before_...`, as older runs have it, there are no maps.
        classes: those drawn, in this order.
        wrong: rows of the store that the detector judges wrongly, each to be ringed.
    """
    return {
        name: _figure(rows, f"before_{key}", classes, wrong)
        for key, name in PROJECTIONS
        if rows and all(row.get(f"before_{key}_{axis}") for row in rows for axis in "xy")
    }


def _figure(rows: list[dict[str, str]], key: str, classes: list[str], wrong: set[int]) -> Markup:
    clouds: dict[str, list[Point]] = {name: [] for name in classes}
    rings: list[Point] = []
    for row in rows:
        if row["defect"] not in clouds:
            continue
        place = float(row[f"{key}_x"]), float(row[f"{key}_y"])
        clouds[row["defect"]].append(place)
        if int(row["row"]) in wrong:
            rings.append(place)
    name = dict(PROJECTIONS)[key.removeprefix("before_")]
    alt = f"{name} of the features of {len(rows)} images before fine-tuning, by class: {', '.join(classes)}"
    return scatter(list(clouds.values()), rings, alt)


def change(metrics: dict[str, Any]) -> Markup:
    """What the nearest neighbours of a test image know of it, before and after; empty where that was not measured."""
    told = metrics.get("neighbours") or {}
    if told.get("before") is None or told.get("after") is None:
        return Markup("")
    earlier, later = (hooked(f"neighbours.{when}", told[when], shown(told[when], 2)) for when in ("before", "after"))
    return Markup(
        "By the share of defective ones among the {} nearest neighbours of each (by the cosine, near-copies left out), "
        "the {} test images are told good from defective with AUROC <strong>{}</strong> before fine-tuning and "
        "<strong>{}</strong> after it; features that know nothing come a little below 0.5. That describes the "
        "features; how good the detector is, the results say."
    ).format(whole("neighbours.k", told["k"]), whole("neighbours.images", told["images"]), earlier, later)
