"""How a pretraining went: its curves, the health of its method, snapshots of the embedding, what it saw and painted."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from ssl_defect.console import minutes
from ssl_defect.report.figures import Series, history, scatter
from ssl_defect.report.pictures import data_uri
from ssl_defect.report.records import RunRecords
from ssl_defect.report.verdict import WITHOUT, method_name

STRIPS = 8
MAPS = (("pca", "PCA"), ("tsne", "t-SNE"))
# What every method may leave in history.csv beside its own scalars: column -> (name, what it says).
COMMON = {
    "spread": ("spread", "how far embeddings are from being all alike: 0 when they are, about 1 at most"),
    "rank": ("effective rank", "RankMe of the features: 1 when they lie along one line, at most their number"),
    "feature_spread": ("spread of features", "how far the encoder's features are from being all alike"),
    "gradient_norm": ("gradient", "its norm before clipping"),
    "learning_rate": ("learning rate", "at the end of the epoch"),
    "images_per_second": ("images per second", "in training, probes apart"),
}
History = list[dict[str, float | None]]


def curves(records: RunRecords) -> list[dict[str, Any]]:
    """Loss and probes over the epochs, each as far as it was measured."""
    rows, facts = records.pretrain_history, records.pretrain
    loss = curve("Pretraining: loss", (rows, "epoch", "loss"), "s0", level=facts.get("chance"))
    if loss and facts.get("chance") is not None:
        loss["note"] = f"dashed: an answer that never looks at the picture ({facts['chance']:.3g})"
    found = [loss]
    for column, fallback in (("probe", "probe"), ("linear_probe", "linear probe")):
        probe = facts.get(column) or {}
        name = probe.get("metric") or fallback
        source = (rows, "epoch", column)
        found.append(curve(f"Pretraining: {name}", source, "s1", probe.get("before"), names=("epoch", "AUROC")))
    return [one for one in found if one]


def health(records: RunRecords) -> list[dict[str, Any]]:
    """A small curve for each scalar of the method, named as the method names it, and for those of every method."""
    declared = {name: (name.replace("_", " "), text) for name, text in (records.pretrain.get("logs") or {}).items()}
    before = (records.pretrain.get("rank") or {}).get("before")
    found = []
    for column, (name, text) in (declared | COMMON).items():
        source = (records.pretrain_history, "epoch", column)
        one = curve(name, source, "s0", before if column == "rank" else None, small=True)
        if one:
            found.append(one | {"note": text, "column": column})
    return found


def curve(
    title: str,
    source: tuple[History, str, str],
    style: str,
    before: float | None = None,
    level: float | None = None,
    **form: Any,
) -> dict[str, Any] | None:
    """A line over time, or None where nothing was measured.

    Args:
        source: rows, and the names of the columns across and up; the axes are named by them, unless `form` says so.
        before: the value at 0.
        level: a value to compare with, dashed.
        form: `small`, and `names` of the axes.
    """
    rows, across, up = source
    points = [(row.get(across), row.get(up)) for row in rows]
    pairs = [(x, y) for x, y in points if x is not None and y is not None]
    if before is not None and pairs and pairs[0][0] > 0:
        pairs.insert(0, (0.0, before))
    if not pairs:
        return None
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    dashed = [Series([xs[0], xs[-1]], [level, level], "chance")] if level is not None else []
    alt = f"{title}: from {ys[0]:.3g} to {ys[-1]:.3g} over {xs[-1]:g} {across}s"
    figure = history(
        [Series(xs, ys, style), *dashed], form.get("names", (across, up)), alt, small=bool(form.get("small"))
    )
    return {"title": title, "figure": figure, "note": ""}


def why_none(records: RunRecords) -> str:
    """Why there is nothing to draw; empty where there is."""
    method = records.pretrain["method"]
    if method in WITHOUT:
        return f"There was no pretraining to draw: the method is `{method}`."
    return "" if records.pretrain_history else "Pretraining left no history to draw."


def strips(records: RunRecords) -> dict[str, Any]:
    """What the method saw and painted: a row per picture of its strip, two where training changed it."""
    if records.views is None or not len(records.views):
        return {"why": "" if records.pretrain["method"] in WITHOUT else "pretraining left no pictures", "rows": []}
    after, before = records.views[:STRIPS], records.views_before
    count = after.shape[1]
    names = list(records.pretrain.get("strip") or [])
    if len(names) != count:
        names = [f"picture {number}" for number in range(1, count + 1)]
    rows = []
    for number, name in enumerate(names):
        earlier = None if before is None or before.shape != records.views.shape else before[:STRIPS, number]
        if earlier is not None and (earlier != after[:, number]).any():
            rows += [_strip(f"{name}, before training", earlier), _strip(f"{name}, after it", after[:, number])]
        else:
            rows.append(_strip(name, after[:, number]))
    return {"method": method_name(records.pretrain), "rows": rows, "why": ""}


def _strip(name: str, pictures: Any) -> dict[str, Any]:
    return {"name": name, "uris": [data_uri(picture, side=128, quality=75) for picture in pictures]}


def snapshots(records: RunRecords, classes: list[str]) -> dict[str, Any]:
    """Small maps of the same pictures over the epochs, by PCA and t-SNE, coloured by `classes`."""
    found = records.snapshots
    if not found:
        return {"maps": [], "why": _why_no_snapshots(records)}
    defects = [records.store.samples[row].defect for row in found["rows"]]
    maps = [
        {"name": name, "figures": [one for one in (_map(found, key, n, defects, classes) for n in range(count)) if one]}
        for (key, name), count in ((one, len(found["epochs"])) for one in MAPS)
    ]
    splits = {records.store.samples[row].split for row in found["rows"]}
    what = "validation" if splits == {"val"} else "training"
    return {"maps": [one for one in maps if one["figures"]], "count": len(defects), "what": what, "why": ""}


def _map(found: dict[str, Any], key: str, number: int, defects: list[str], classes: list[str]) -> dict[str, Any] | None:
    places, epoch = found[key][number], int(found["epochs"][number])
    if not np.isfinite(places).all():
        return None
    clouds: dict[str, list[tuple[float, float]]] = {name: [] for name in classes}
    for defect, (x, y) in zip(defects, places.tolist(), strict=True):
        if defect in clouds:
            clouds[defect].append((x, y))
    when = "before training" if epoch == 0 else f"after epoch {epoch}"
    alt = f"{dict(MAPS)[key]} of the encoder's features of {len(defects)} pictures {when}"
    return {"title": when, "figure": scatter(list(clouds.values()), [], alt, small=True)}


def _why_no_snapshots(records: RunRecords) -> str:
    if records.pretrain["method"] in WITHOUT:
        return ""
    wanted = records.recipe.pretrain.snapshots
    return "pretraining left none" if wanted else "they are turned off in the recipe (pretrain.snapshots)"


def facts(records: RunRecords) -> list[tuple[str, str]]:
    """How long pretraining took."""
    told = records.pretrain
    if told.get("training_seconds") is None or not told.get("epochs"):
        return []
    text = f"{told['epochs']} epochs in {minutes(told['training_seconds'])} min"
    probes = told.get("probe_seconds")
    return [("pretraining", text + (f", probes {minutes(probes)} min" if probes is not None else ""))]


def warnings(records: RunRecords) -> list[Markup]:
    """What the stage warned of while it ran."""
    return [Markup("{}").format(f"{text[0].upper()}{text[1:]}.") for text in records.pretrain.get("warnings") or []]
