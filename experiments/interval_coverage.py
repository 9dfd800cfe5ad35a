"""How often do 95% intervals hold the truth? Sets drawn from known models, their intervals, and a count.

    python experiments/interval_coverage.py [--sets 1000] [--draws 300] [--groups 60] [--out FOLDER] [--only ROW ...]

A set is `--groups` near-copy groups of one to four images; the images of a group share a label and part of their
score. Image scores are normal in each class, so that AUROC, AP and F1 of the population follow from the model. Maps
are noise with regions of many strengths, and their true values come from 150,000 images. `pair` rows are differences of
two detectors on the same images, `seeds` rows means over seeds whose detectors differ in strength with the standard
deviation in brackets, and their differences. `used` is what the package gives; beside it stand DeLong's interval and
those of `--draws` bootstrap draws of the groups. A cell is the share of sets whose interval holds the truth, (how many
lie wholly under it / over it), and the mean width. With --out, rows done before are not measured again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from coverage_models import LEVEL, Array, Ends, Found, Maps, Scores
from scipy.special import expit, logit
from scipy.stats import t
from threadpoolctl import threadpool_limits

from ssl_defect.compare.seeds import parts, parts_of_difference
from ssl_defect.evaluate.bootstrap import (
    Resampling,
    draw,
    intervals,
    leave_out,
    paired_difference,
    point,
    with_interval,
)

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(21)  # of a normal distribution


def percentile(value: float, drawn: Array) -> Ends:
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def on_logits(value: float, drawn: Array, groups: int) -> Ends:
    """The value give or take t standard deviations of the draws on the logit scale, with groups - 1 degrees."""
    if not 0 < value < 1:
        return percentile(value, drawn)
    reach = t.ppf((1 + LEVEL) / 2, groups - 1) * np.nanstd(drawn, ddof=1) / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-reach, reach]))
    return float(low), float(high)


@dataclass(frozen=True)
class Row:
    """What is measured: `model`, or how much better one `gap` stronger is; of `seeds` that vary by `vary`."""

    model: Scores | Maps
    metrics: tuple[str, ...]
    gap: float | None = None
    seeds: int = 1
    vary: float = 0.0

    def truth(self) -> dict[str, float]:
        mine = self._mean(0.0)
        return mine if self.gap is None else {name: one - mine[name] for name, one in self._mean(self.gap).items()}

    def _mean(self, shift: float) -> dict[str, float]:
        if not self.vary:
            return self.model.truth(shift)
        every = [self.model.truth(shift + self.vary * node) for node in NODES]
        return {name: float(np.average([one[name] for one in every], weights=WEIGHTS)) for name in every[0]}

    def measure(self, groups: int, draws: int, seed: int) -> Found:
        """Ends by metric and method of the set that `seed` draws."""
        rng = np.random.default_rng([7, seed])
        if self.seeds > 1:
            return self._over_seeds(rng, groups)
        shifts = np.array([0.0] if self.gap is None else [0.0, self.gap])
        families, group, beside = self.model.families(rng, groups, shifts)
        spec = Resampling(draws, LEVEL, seed)
        if self.gap is None:
            used = intervals(families[0], group, spec)
        else:
            used = paired_difference(families[1], families[0], group, spec)
        known = [name for name in self.metrics if used[name]["low"] is not None]
        found: Found = {name: {"used": (used[name]["low"], used[name]["high"])} for name in known}
        for name in known:
            found[name] |= beside.get(name, {})
        if draws:
            drawn = draw(families, group, spec)
            for name in known:
                value = drawn[0][name] if self.gap is None else drawn[1][name] - drawn[0][name]
                found[name]["percentile"] = percentile(used[name]["value"], value)
                if self.gap is None:
                    found[name]["bootstrap, logit"] = on_logits(used[name]["value"], value, groups)
        return found

    def _over_seeds(self, rng: np.random.Generator, groups: int) -> Found:
        arms = [0.0] if self.gap is None else [0.0, self.gap]
        shifts = np.concatenate([arm + self.vary * rng.normal(size=self.seeds) for arm in arms])
        families, group, _ = self.model.families(rng, groups, shifts)
        points, without = [point(family, len(group)) for family in families], leave_out(families, group)
        found: Found = {}
        for name in self.metrics:
            value = np.array([one[name] for one in points]).reshape(len(arms), -1)
            left = np.stack([one[name] for one in without]).reshape(len(arms), self.seeds, -1)
            if len(arms) == 1:
                entry = with_interval(float(value.mean()), parts(value[0], left[0]), LEVEL, "", True)
            else:
                same = list(range(self.seeds))
                told = parts_of_difference((value[1], value[0]), (left[1], left[0]), (same, same))
                entry = with_interval(float(value[1].mean() - value[0].mean()), told, LEVEL, "")
            if entry["low"] is not None:
                found[name] = {"used": (entry["low"], entry["high"])}
        return found


def rows() -> dict[str, Row]:
    """All rows by name."""
    image, pixel = ("auroc", "ap", "f1"), ("auroc", "ap", "aupro", "iou", "dice")
    strengths = {"moderate": 1.2, "good": 2.2, "excellent": 3.2}
    found = {f"image, {name}": Row(Scores(apart), image) for name, apart in strengths.items()}
    found |= {f"pixel, {name}": Row(Maps(apart), pixel) for name, apart in (("moderate", 1.5), ("good", 3.0))}
    for name, gap in (("none", 0.0), ("small", 0.4), ("large", 1.0)):
        found[f"image pair, {name}"] = Row(Scores(2.2), image, gap)
        if name != "large":
            found[f"pixel pair, {name}"] = Row(Maps(2.2), pixel, gap)
    for vary in (0.1, 0.6):
        for seeds in (2, 3, 5, 10):
            one = Row(Scores(1.6), ("auroc", "ap"), None, seeds, vary)
            found[f"{seeds} seeds ({vary})"] = one
            found[f"{seeds} seeds ({vary}), pair"] = replace(one, gap=0.4)
    return found


METHODS = ("used", "DeLong", "percentile", "bootstrap, logit")


def tally(truth: float, ends: Array) -> dict[str, float]:
    """Share of intervals (n, 2) that hold the truth; how many lie wholly under and over it; their mean width."""
    under, over = ends[:, 1] < truth, ends[:, 0] > truth
    held = float(1 - (under | over).mean())
    return {"held": held, "under": int(under.sum()), "over": int(over.sum()), "width": float(np.ptp(ends, 1).mean())}


def table_rows(name: str, row: Row, options: argparse.Namespace) -> list[str]:
    """Lines of the table; measured now, or read from --out."""
    file = "".join(char if char.isalnum() else "_" for char in name)
    path = options.out and options.out / f"{file}-{options.groups}-{options.sets}-{options.draws}.json"
    if path and path.exists():
        lines: list[str] = json.loads(path.read_text())
        return lines
    with threadpool_limits(1):
        truth = row.truth()
        sets = [row.measure(options.groups, options.draws, seed) for seed in range(options.sets)]
    lines = []
    for metric in row.metrics:
        cells = []
        for method in METHODS:
            ends = np.array([one[metric][method] for one in sets if method in one.get(metric, {})])
            told = tally(truth[metric], ends) if len(ends) else None
            text = told and f"{told['held']:.1%} ({told['under']}/{told['over']}), {told['width']:.3f}"
            cells.append(text or "")
        lines.append(f"| {name} | {metric} | {truth[metric]:.4f} | {' | '.join(cells)} |")
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(lines))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, value in (("--sets", 1000), ("--draws", 300), ("--groups", 60)):
        parser.add_argument(option, type=int, default=value)
    parser.add_argument("--out", type=Path, help="folder that keeps each row's lines")
    parser.add_argument("--only", nargs="+", default=[*rows()], choices=rows(), metavar="ROW", help="; ".join(rows()))
    options = parser.parse_args()
    print(f"| {' | '.join(('set', 'metric', 'truth', *METHODS))} |\n|{'---|' * (3 + len(METHODS))}")
    for name in options.only:
        print("\n".join(table_rows(name, rows()[name], options)), flush=True)


if __name__ == "__main__":
    main()
