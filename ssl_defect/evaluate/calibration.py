"""Whether a score means what it says: expected calibration error, Brier score, and the bins of the diagram."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.evaluate.bootstrap import Resampling, intervals
from ssl_defect.evaluate.metrics import Array, Family
from ssl_defect.evaluate.shares import share_of

BINS = 10
AT_ONCE = 100  # draws of all labels that are in memory together


def calibration(labels: Array, scores: Array, groups: Array, spec: Resampling) -> dict[str, Any] | None:
    """The block "calibration" of `metrics.json`; None without both classes.

    `{"ece": {"value", "chance"}, "brier": {"value", "low", "high"}, "bins": [{"low", "high", "images", "score",
    "defective"}]}`: ends of a bin of scores, mean score and the share of defective images in it with its interval;
    empty bins are left out. Few images have a larger ECE than many, so an interval about it would not hold what many
    have; `chance` says instead what a score that means what it says would have on these (`by_chance`).

    Args:
        labels: (n,) 0 good, 1 defective.
        scores: (n,) in [0, 1].
        groups: (n,) near-copy group of each image.
    """
    labels = np.asarray(labels) > 0
    if not len(labels) or labels.all() or not labels.any():
        return None
    places = bin_of(scores)
    bins = []
    for place in np.unique(places):
        here = places == place
        bins.append(
            {
                "low": place / BINS,
                "high": (place + 1) / BINS,
                "images": int(here.sum()),
                "score": float(scores[here].mean()),
                "defective": share_of(labels[here], groups[here], spec.level),
            }
        )
    found = intervals(calibration_family(labels, scores), groups, spec)
    chance = by_chance(scores, groups, spec, found["ece"]["value"])
    return {"ece": {"value": found["ece"]["value"], "chance": chance}, "brier": found["brier"], "bins": bins}


def by_chance(scores: Array, groups: Array, spec: Resampling, value: float) -> dict[str, float]:
    """The ECE of these images where each is defective as often as its score says: `{"low", "high", "p"}`.

    Broecker and Smith, Increasing the reliability of reliability diagrams, Weather and Forecasting 22 (2007) 651, here
    with one throw for all images of a near-copy group: they are one part, defective together as far as their scores
    allow. Images that fell one by one would leave less to chance, and two in three right scores would be called wrong.

    Args:
        scores: (n,) in [0, 1].
        groups: (n,) near-copy group of each image.
        spec: number of draws, level of the range and seed.
        value: the ECE found; p is how often such draws reach it, itself counted in.
    """
    scores = np.asarray(scores, np.float64)
    places, (_, parts) = np.eye(BINS)[bin_of(scores)], np.unique(groups, return_inverse=True)
    rng, found = np.random.default_rng(spec.seed), []
    for start in range(0, spec.draws, AT_ONCE):
        thrown = rng.random((min(AT_ONCE, spec.draws - start), parts.max() + 1))[:, parts]
        found.append(np.abs((scores - (thrown < scores)) @ places).sum(-1) / len(scores))
    drawn = np.concatenate(found)
    low, high = np.quantile(drawn, [(1 - spec.level) / 2, (1 + spec.level) / 2])
    reached = int((drawn >= value - 1e-12).sum())
    return {"low": float(low), "high": float(high), "p": (1 + reached) / (1 + len(drawn))}


def bin_of(scores: Array) -> Array:
    """(n,) numbers of bins of equal width; a score of 1 is in the last one."""
    places: Array = np.minimum((np.asarray(scores, np.float64) * BINS).astype(np.int64), BINS - 1)
    return places


def calibration_family(labels: Array, scores: Array) -> Family:
    """`ece` and `brier`, both in [0, 1] and best at 0, as a function of the images' weights.

    ECE: Guo et al., On calibration of modern neural networks, ICML 2017, eq. 3, with ten bins of equal width. Brier,
    Verification of forecasts expressed in terms of probability, Monthly Weather Review 1950.
    """
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    gaps = np.zeros((len(scores), BINS))
    gaps[np.arange(len(scores)), bin_of(scores)] = scores - labels
    squares = (scores - labels) ** 2

    def family(weights: Array) -> dict[str, Array]:
        total = weights.sum(-1, dtype=np.float64)
        return {"ece": np.abs(weights @ gaps).sum(-1) / total, "brier": weights @ squares / total}

    return family
