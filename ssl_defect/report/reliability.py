"""Whether a score means what it says, and how small a defect is still found: both from the test predictions alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from ssl_defect.report.figures import interval_dots
from ssl_defect.report.numbers import share, shown
from ssl_defect.report.records import DEFECTIVE, Prediction, RunRecords
from ssl_defect.report.svg import Frame, axes, line, picture, short, tag

Array = npt.NDArray[np.float64]
BINS = 10
AREAS = 4
FEWEST = 20  # defective images with a mask, below which sizes are not told apart
CHUNK = 2_000_000


def calibration(records: RunRecords) -> dict[str, Any] | None:
    """The reliability diagram, the expected calibration error (ECE) and the Brier score; None without both classes.

    ECE with ten bins of equal width: Guo et al., On calibration of modern neural networks, ICML 2017, eq. 3. Brier,
    Verification of forecasts expressed in terms of probability, 1950. Intervals are percentiles over draws of groups.
    """
    rows = records.predictions
    labels = np.array([one.label > 0 for one in rows], np.float64)
    if not len(rows) or labels.min() == labels.max():
        return None
    scores = np.array([one.score for one in rows], np.float64)
    sums = binned(scores, labels)
    level = records.metrics["interval"]["level"]
    groups = np.array([one.group for one in rows])
    drawn = np.concatenate([np.stack(measures(part)) for part in _draws(sums, groups, records)], axis=1)
    ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1)
    values = [float(value[0]) for value in measures(sums.sum(0)[None])]
    some = len(np.unique(groups)) > 1
    return {
        "figure": _diagram(sums.sum(0)),
        "rows": [
            (name, shown(value), f"{low:.3f} to {high:.3f}" if some else "")
            for name, value, low, high in zip(NAMES, values, *ends, strict=True)
        ],
        "probability": _meant(records),
    }


def _meant(records: RunRecords) -> bool:
    """Whether the score was made to be a probability."""
    anomaly = records.recipe.anomaly
    if records.metrics["protocol"]["task"] == "anomaly":
        return bool(anomaly and anomaly.options.get("calibration") == "logistic")
    return bool(records.metrics["protocol"]["task"] != "classical")


NAMES = ("Expected calibration error", "Brier score")


def binned(scores: Array, labels: Array) -> Array:
    """(n, 4, BINS): per image, in the bin of its score: 1, score, label and squared error; elsewhere zero."""
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    sums = np.zeros((len(scores), 4, BINS))
    facts = np.stack([np.ones_like(scores), scores, labels, (scores - labels) ** 2], axis=1)
    sums[np.arange(len(scores)), :, place] = facts
    return sums


def measures(sums: Array) -> tuple[Array, Array]:
    """ECE and Brier score (d,) of sums (d, 4, BINS)."""
    count = sums[:, 0].sum(-1)
    return np.abs(sums[:, 1] - sums[:, 2]).sum(-1) / count, sums[:, 3].sum(-1) / count


def _draws(sums: Array, groups: npt.NDArray[np.int64], records: RunRecords) -> Iterator[Array]:
    """Sums (d, 4, BINS) of groups drawn with replacement, `draws` in all; always the same."""
    names, inverse = np.unique(groups, return_inverse=True)
    by_group = np.zeros((len(names), *sums.shape[1:]))
    np.add.at(by_group, inverse, sums)
    rng, left = np.random.default_rng([records.recipe.seed, len(names)]), records.metrics["interval"]["draws"]
    while left > 0:
        count = min(left, max(1, CHUNK // len(names)))
        picks = rng.integers(0, len(names), (count, len(names))) + np.arange(count)[:, None] * len(names)
        weights = np.bincount(picks.ravel(), minlength=count * len(names)).reshape(count, -1)
        yield np.tensordot(weights.astype(np.float64), by_group, axes=1)
        left -= count


def wilson(hits: float, count: float, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a share (Wilson, Probable inference, JASA 1927)."""
    middle = (hits + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _diagram(sums: Array) -> Markup:
    """Share of defective images against the mean score of each bin: dots as large as the bins are full."""
    frame = Frame((0.0, 1.0), (0.0, 1.0))
    count, score, bad, _ = sums
    parts = [axes(frame, "mean score of the bin", "share that is defective"), line(frame, [0, 1], [0, 1], "chance")]
    words = []
    for place in np.flatnonzero(count):
        x, part, n = frame.across(score[place] / count[place]), bad[place] / count[place], int(count[place])
        low, high = (short(frame.down(end)) for end in wilson(bad[place], n))
        radius = 3 + 9 * math.sqrt(n / count.max())
        parts.append(tag("path", class_="whisker", d=f"M{short(x)} {low}V{high}"))
        told = tag("title", f"{n:,} images, mean score {score[place] / n:.2f}, {share(float(part))} defective")
        parts.append(tag("circle", told, class_="dot", cx=x, cy=frame.down(part), r=radius))
        words.append(f"{score[place] / n:.2f}: {part:.2f} of {n}")
    return picture(frame, parts, f"Share of defective images by mean score of ten bins: {'; '.join(words)}")


def by_area(records: RunRecords) -> dict[str, Any] | None:
    """Recall of defective test images by the share of the picture that is drawn as defective, in quarters by number.

    None where fewer than `FEWEST` have a mask. Intervals (Wilson, 95%) take the images as independent.
    """
    known = [one for one in records.predictions if one.label and one.area_true]
    if len(known) < FEWEST or records.metrics["threshold"]["value"] is None:
        return None
    rows = [_quarter(part) for part in quarters(known)]
    dots = [(row["area"], row["hits"] / row["images"], *row["ends"]) for row in rows]
    alt = "Recall by area of the defect: " + "; ".join(f"{row['area']}: {row['recall']}" for row in rows)
    return {
        "rows": rows,
        "figure": interval_dots(dots, "recall by area of the defect", alt),
        "images": len(known),
    }


def quarters(known: Sequence[Prediction]) -> list[list[Prediction]]:
    """Four parts of about equal number by rising area; equal areas stay together, empty parts are left out."""
    areas = np.array([one.area_true for one in known], np.float64)
    limits = np.quantile(areas, np.arange(1, AREAS) / AREAS, method="inverted_cdf")
    places = np.searchsorted(limits, areas, side="left")
    parts = [[one for one, at in zip(known, places, strict=True) if at == place] for place in range(AREAS)]
    return [part for part in parts if part]


def _quarter(part: list[Prediction]) -> dict[str, Any]:
    areas = [one.area_true for one in part if one.area_true is not None]
    hits = sum(one.verdict == DEFECTIVE for one in part)
    ends = wilson(hits, len(part))
    low, high = (_area(end) for end in (min(areas), max(areas)))
    return {
        "area": low if low == high else f"{low} to {high}",
        "images": len(part),
        "hits": hits,
        "recall": shown(hits / len(part)),
        "ends": ends,
        "interval": f"{ends[0]:.3f} to {ends[1]:.3f}",
    }


def _area(part: float) -> str:
    return f"{100 * part:.2g}%"
