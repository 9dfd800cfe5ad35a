"""What does the calibration error of a test set tell? Sets drawn from scores of known rightness.

    python experiments/calibration_error.py [--sets 1000]

Groups of one to four near-copies are one part, defective by odds that are normal on the logit scale. A score is these
odds times `steep`, with a little noise of the image: 1 is right, 2 too sure, 0.4 too doubtful. `truth` is what 60,000
groups have. `interval` is one by leaving out groups, as other metrics have it; `called wrong` is how often a right
score would rarely do as badly (p of at most 0.05), with one throw for all images of a group, and with one for each.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import expit
from threadpoolctl import threadpool_limits

from ssl_defect.evaluate.bootstrap import Resampling, intervals, point
from ssl_defect.evaluate.calibration import by_chance, calibration_family
from ssl_defect.evaluate.metrics import Array

NOISE, MANY = 0.1, 60_000
STEEP, GROUPS = (1.0, 2.0, 0.4), (60, 150, 600)


def sample(rng: np.random.Generator, groups: int, steep: float) -> tuple[Array, Array, Array]:
    """Labels, scores and groups of the images."""
    odds, group = rng.normal(-1, 2, groups), np.repeat(np.arange(groups), rng.integers(1, 5, groups))
    labels = (rng.random(groups) < expit(odds))[group].astype(int)
    return labels, expit(steep * odds[group] + NOISE * rng.normal(size=len(group))), group


def measure(seed: int, groups: int, steep: float) -> dict[str, Array]:
    """Of one set: both values and their intervals, and the p by either way of throwing."""
    labels, scores, group = sample(np.random.default_rng([23, seed]), groups, steep)
    found = intervals(calibration_family(labels, scores), group, Resampling(100, 0.95, seed))
    value, spec = found["ece"]["value"], Resampling(200, 0.95, seed)
    told = {name: np.array([found[name][key] for key in ("value", "low", "high")]) for name in found}
    ways = (group, np.arange(len(group)))
    return told | {"p": np.array([by_chance(scores, way, spec, value)["p"] for way in ways])}


def row(groups: int, steep: float, sets: int) -> str:
    labels, scores, group = sample(np.random.default_rng([29, 0]), MANY, steep)
    truth = point(calibration_family(labels, scores), len(group))
    found = [measure(seed, groups, steep) for seed in range(sets)]
    cells = [f"{steep:g}", f"{groups}"]
    for name in ("ece", "brier"):
        told = np.stack([one[name] for one in found])
        held = ((told[:, 1] <= truth[name]) & (truth[name] <= told[:, 2])).mean()
        cells += [f"{truth[name]:.3f}", f"{told[:, 0].mean():.3f}", f"{held:.1%}"]
    cells += [f"{share:.1%}" for share in (np.stack([one["p"] for one in found]) <= 0.05).mean(axis=0)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000)
    sets = parser.parse_args().sets
    of = [f"{name}: {what}" for name in ("ECE", "Brier") for what in ("truth", "mean", "interval holds it")]
    heads = ["steep", "groups", *of, "called wrong", "by images"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    with threadpool_limits(1):
        for steep in STEEP:
            for groups in GROUPS:
                print(row(groups, steep, sets), flush=True)


if __name__ == "__main__":
    main()
