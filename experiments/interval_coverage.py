"""How often do 95% intervals hold the truth? Sets drawn from known models, their intervals, and a count.

    python experiments/interval_coverage.py [--sets 1000] [--draws 300] [--groups 60] [--jobs 1]

A set is `--groups` near-copy groups of one to four images; the images of a group share a label and part of their
score. Image scores are normal in each class, so that AUROC, AP and F1 of the population follow from the model. Maps
are noise with regions of many strengths, and their true AUPRO, AP, IoU and Dice come from a set of 40,000 images.
Each interval is made from the same draws of groups: `percentile` is the plain one, the others are listed in METHODS.
`used` is what the package gives. A cell is the share of sets whose interval holds the truth, (how many lie wholly under
it / over it), and the mean width.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, t
from threadpoolctl import threadpool_limits

from ssl_defect.evaluate import delong
from ssl_defect.evaluate.bootstrap import Resampling, draw, point, summary
from ssl_defect.evaluate.metrics import Array, Family, image_family
from ssl_defect.evaluate.regions import count_pixels, pixel_family

LEVEL, LIMIT, BAD = 0.95, 0.3, 0.35
SIDE, STEP = 24, 0.1  # of a map in pixels; its values are multiples of STEP, so that counts are exact
MANY = 40_000
Ends = tuple[float, float]


@dataclass(frozen=True)
class Drawn:
    """A metric of one set: its value, its bootstrap draws, its values without each group in turn."""

    value: float
    draws: Array
    without: Array


def percentile(one: Drawn) -> Ends:
    low, high = np.quantile(one.draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def expanded(one: Drawn) -> Ends:
    """Percentiles further out, by Student's t and the bias of a variance: Hesterberg, Am. Stat. 69 (2015) 371."""
    count = len(one.without)
    tail = norm.cdf(np.sqrt(count / (count - 1)) * t.ppf((1 - LEVEL) / 2, count - 1))
    low, high = np.quantile(one.draws, [tail, 1 - tail])
    return float(low), float(high)


def bca(one: Drawn) -> Ends:
    """Bias-corrected and accelerated: Efron, JASA 82 (1987) 171; the acceleration by the jackknife over groups."""
    below = (one.draws < one.value).mean() + (one.draws == one.value).mean() / 2
    bias = norm.ppf(np.clip(below, 1e-3, 1 - 1e-3))
    away = one.without.mean() - one.without
    spread = (away**2).sum() ** 1.5
    lean = (away**3).sum() / (6 * spread) if spread else 0.0
    normal = bias + norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.quantile(one.draws, norm.cdf(bias + normal / (1 - lean * normal)))
    return float(low), float(high)


def on_logits(one: Drawn) -> Ends:
    """The value give or take t standard errors on the logit scale; the error is the draws' own, by the delta method."""
    if not 0 < one.value < 1:
        return percentile(one)
    error = one.draws.std(ddof=1) / (one.value * (1 - one.value))
    reach = t.ppf((1 + LEVEL) / 2, len(one.without) - 1) * error
    low, high = expit(logit(one.value) + np.array([-reach, reach]))
    return float(low), float(high)


METHODS: dict[str, Callable[[Drawn], Ends]] = {
    "percentile": percentile,
    "expanded": expanded,
    "BCa": bca,
    "logit": on_logits,
}


def groups_of(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Group of each image, and a label (0, 1) of each image, the same within a group."""
    groups = np.repeat(np.arange(count), rng.integers(1, 5, count))
    return groups, (rng.random(count) < BAD).astype(int)[groups]


@dataclass(frozen=True)
class Scores:
    """Two unit normals `apart`; the images of a group share the part `alike` of the variance."""

    apart: float
    alike: float = 0.5

    @property
    def threshold(self) -> float:
        return self.apart / 2 + 0.3

    def truth(self) -> dict[str, float]:
        grid = np.linspace(-8, self.apart + 8, 20_001)[::-1]
        tpr, fpr = norm.sf(grid - self.apart), norm.sf(grid)
        precision = BAD * tpr / (BAD * tpr + (1 - BAD) * fpr)
        hit, false = norm.sf(self.threshold - self.apart), norm.sf(self.threshold)
        f1 = 2 * BAD * hit / (BAD * hit + (1 - BAD) * false + BAD)
        area = float(np.sum(np.diff(tpr) * (precision[1:] + precision[:-1]) / 2))
        return {"auroc": float(norm.cdf(self.apart / np.sqrt(2))), "ap": area, "f1": float(f1)}

    def sample(self, rng: np.random.Generator, count: int) -> tuple[Array, Array, Array]:
        """Labels, scores and groups of a set of `count` groups."""
        groups, labels = groups_of(rng, count)
        noise = np.sqrt(self.alike) * rng.normal(size=count)[groups]
        noise += np.sqrt(1 - self.alike) * rng.normal(size=len(groups))
        return labels, self.apart * labels + noise, groups

    def family(self, rng: np.random.Generator, count: int) -> tuple[Family, Array, dict[str, Ends]]:
        labels, scores, groups = self.sample(rng, count)
        exact = {name: delong.interval(labels, scores, groups, LEVEL, name) for name in ("logit", "plain")}
        beside = {f"DeLong, {name}": (one["low"], one["high"]) for name, one in exact.items() if one["low"] is not None}
        return image_family(labels, scores, self.threshold), groups, beside


@dataclass(frozen=True)
class Maps:
    """Maps of unit noise; a defective image has one or two regions whose strengths vary about `strength`."""

    strength: float
    spread: float = 0.8
    alike: float = 0.5

    @property
    def threshold(self) -> float:
        return float(np.float32(round(self.strength / 2 / STEP + 3) * STEP))

    def truth(self) -> dict[str, float]:
        rng = np.random.default_rng(2**20)
        family, groups, _ = self.family(rng, int(MANY / 2.5))
        return point(family, len(groups))

    def family(self, rng: np.random.Generator, count: int) -> tuple[Family, Array, dict[str, Ends]]:
        groups, labels = groups_of(rng, count)
        number = len(groups)
        maps, masks = rng.normal(size=(number, SIDE, SIDE)).astype(np.float32), np.zeros((number, SIDE, SIDE), np.uint8)
        shared = rng.normal(size=count)
        for i in np.flatnonzero(labels):
            for half in range(rng.integers(1, 3)):  # left and right, so that regions do not touch
                own = np.sqrt(self.alike) * shared[groups[i]] + np.sqrt(1 - self.alike) * rng.normal()
                high, wide = rng.integers(2, 10, 2)
                y, x = rng.integers(0, SIDE - high), half * SIDE // 2 + rng.integers(0, SIDE // 2 - wide)
                masks[i, y : y + high, x : x + wide] = 1
                maps[i, y : y + high, x : x + wide] += max(0.0, self.strength + self.spread * own)
        counts = count_pixels(np.round(maps / STEP).astype(np.float32) * np.float32(STEP), masks, self.threshold)
        return pixel_family(counts, self.threshold, LIMIT), groups, {}


MODELS: dict[str, tuple[Scores | Maps, tuple[str, ...]]] = {
    "image, moderate": (Scores(1.2), ("auroc", "ap", "f1")),
    "image, good": (Scores(2.2), ("auroc", "ap", "f1")),
    "image, excellent": (Scores(3.2), ("auroc", "ap", "f1")),
    "pixel, moderate": (Maps(1.5), ("ap", "aupro", "iou", "dice")),
    "pixel, good": (Maps(3.0), ("ap", "aupro", "iou", "dice")),
}


def measure(name: str, groups: int, draws: int, seed: int) -> dict[str, dict[str, Ends]]:
    """Ends by metric and method of the set that `seed` draws."""
    model, metrics = MODELS[name]
    spec = Resampling(draws, LEVEL, seed)
    with threadpool_limits(1):
        family, group, beside = model.family(np.random.default_rng([7, seed]), groups)
        values, (drawn,) = point(family, len(group)), draw([family], group, spec)
        without = family((group != np.unique(group)[:, None]).astype(np.float64))
    found = {}
    for metric in metrics:
        used = summary(values[metric], drawn[metric], group, LEVEL, "")
        one = Drawn(values[metric], drawn[metric][np.isfinite(drawn[metric])], without[metric])
        found[metric] = {"used": (used["low"], used["high"])}
        found[metric] |= {method: ends(one) for method, ends in METHODS.items()}
    return {metric: found[metric] | (beside if metric == "auroc" else {}) for metric in metrics}


def tally(truth: float, ends: Array) -> dict[str, Any]:
    """Share of intervals (n, 2) that hold the truth; how many lie wholly under and over it; their mean width."""
    under, over = ends[:, 1] < truth, ends[:, 0] > truth
    held = float(1 - (under | over).mean())
    return {"held": held, "under": int(under.sum()), "over": int(over.sum()), "width": float(np.ptp(ends, 1).mean())}


def row(name: str, metric: str, truth: float, sets: list[dict[str, Ends]]) -> str:
    cells = []
    for method in ("used", *METHODS, "DeLong, plain", "DeLong, logit"):
        ends = np.array([one[method] for one in sets if method in one])
        if len(ends):
            found = tally(truth, ends)
            cells.append(f"{found['held']:.1%} ({found['under']}/{found['over']}), {found['width']:.3f}")
        else:
            cells.append("")
    return f"| {name} | {metric} | {truth:.4f} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, value in (("--sets", 1000), ("--draws", 300), ("--groups", 60), ("--jobs", 1)):
        parser.add_argument(option, type=int, default=value)
    parser.add_argument("--only", nargs="+", default=[*MODELS], choices=MODELS, metavar="MODEL", help="; ".join(MODELS))
    options = parser.parse_args()
    heads = ("set", "metric", "truth", "used", *METHODS, "DeLong, plain", "DeLong, logit")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in options.only:
        model, metrics = MODELS[name]
        one = partial(measure, name, options.groups, options.draws)
        if options.jobs > 1:
            with get_context("spawn").Pool(options.jobs) as pool:
                sets = pool.map(one, range(options.sets), chunksize=20)
        else:
            sets = [one(seed) for seed in range(options.sets)]
        truth = model.truth()
        for metric in metrics:
            print(row(name, metric, truth[metric], [found[metric] for found in sets]), flush=True)


if __name__ == "__main__":
    main()
