"""Models of known truth for the study of coverage: sets of image scores, and of maps, in near-copy groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from ssl_defect.evaluate import delong
from ssl_defect.evaluate.bootstrap import point
from ssl_defect.evaluate.metrics import Array, Family, image_family
from ssl_defect.evaluate.regions import count_pixels, pixel_family

LEVEL, LIMIT, BAD = 0.95, 0.3, 0.35
SIDE, STEP = 24, 0.1  # of a map in pixels; its values are multiples of STEP, so that counts are exact
PARTS, MANY = 10, 6000  # sets of so many groups that the truth of maps is the mean of
Ends = tuple[float, float]
Found = dict[str, dict[str, Ends]]  # metric -> method -> ends


def groups_of(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Group of each image, and a label (0, 1) of each image, the same within a group."""
    groups = np.repeat(np.arange(count), rng.integers(1, 5, count))
    return groups, (rng.random(count) < BAD).astype(int)[groups]


@dataclass(frozen=True)
class Scores:
    """Two unit normals `apart`; half of the variance is the group's, a quarter the image's, the rest the detector's."""

    apart: float

    @property
    def threshold(self) -> float:
        return self.apart / 2 + 0.3

    def truth(self, shift: float = 0.0) -> dict[str, float]:
        """Metrics of the population of a detector whose classes lie `shift` further apart."""
        apart = self.apart + shift
        grid = np.linspace(-8, apart + 8, 20_001)[::-1]
        tpr, fpr = norm.sf(grid - apart), norm.sf(grid)
        precision = BAD * tpr / (BAD * tpr + (1 - BAD) * fpr)
        hit, false = norm.sf(self.threshold - apart), norm.sf(self.threshold)
        f1 = 2 * BAD * hit / (BAD * hit + (1 - BAD) * false + BAD)
        area = float(np.sum(np.diff(tpr) * (precision[1:] + precision[:-1]) / 2))
        return {"auroc": float(norm.cdf(apart / np.sqrt(2))), "ap": area, "f1": float(f1)}

    def sample(self, rng: np.random.Generator, count: int, shifts: Array) -> tuple[Array, Array, Array]:
        """Labels (n,), a row of scores (n,) per shift, and groups (n,) of a set of `count` groups."""
        groups, labels = groups_of(rng, count)
        noise = np.sqrt(0.5) * rng.normal(size=count)[groups] + 0.5 * rng.normal(size=len(groups))
        own = 0.5 * rng.normal(size=(len(shifts), len(groups)))
        return labels, (self.apart + np.asarray(shifts)[:, None]) * labels + noise + own, groups

    def families(self, rng: np.random.Generator, count: int, shifts: Array) -> tuple[list[Family], Array, Found]:
        """A family per shift, groups, and DeLong's intervals of the first."""
        labels, scores, groups = self.sample(rng, count, shifts)
        exact = delong.interval(labels, scores[0], groups, LEVEL)
        if len(shifts) == 2:
            exact = delong.paired_difference(labels, (scores[1], scores[0]), groups, LEVEL)
        beside = {"auroc": {"DeLong": (exact["low"], exact["high"])}} if exact["low"] is not None else {}
        return [image_family(labels, one, self.threshold) for one in scores], groups, beside


@dataclass(frozen=True)
class Maps:
    """Maps of unit noise; a defective image has one or two regions whose strengths vary about `strength`."""

    strength: float
    spread: float = 0.8
    alike: float = 0.5

    @property
    def threshold(self) -> float:
        return float(np.float32(round(self.strength / 2 / STEP + 3) * STEP))

    def truth(self, shift: float = 0.0) -> dict[str, float]:
        found = []
        for part in range(PARTS):
            (family,), groups, _ = self.families(np.random.default_rng([2**20, part]), MANY, np.array([shift]))
            found.append(point(family, len(groups)))
        return {name: float(np.mean([one[name] for one in found])) for name in found[0]}

    def families(self, rng: np.random.Generator, count: int, shifts: Array) -> tuple[list[Family], Array, Found]:
        groups, labels = groups_of(rng, count)
        masks, strengths = (
            np.zeros((len(groups), SIDE, SIDE), np.uint8),
            np.zeros((len(groups), SIDE, SIDE), np.float32),
        )
        shared = rng.normal(size=count)
        for i in np.flatnonzero(labels):
            for half in range(rng.integers(1, 3)):  # left and right, so that regions do not touch
                own = np.sqrt(self.alike) * shared[groups[i]] + np.sqrt(1 - self.alike) * rng.normal()
                high, wide = rng.integers(2, 10, 2)
                y, x = rng.integers(0, SIDE - high), half * SIDE // 2 + rng.integers(0, SIDE // 2 - wide)
                masks[i, y : y + high, x : x + wide] = 1
                strengths[i, y : y + high, x : x + wide] = self.strength + self.spread * own
        found = []
        for shift in shifts:
            maps = rng.normal(size=masks.shape).astype(np.float32) + masks * np.maximum(
                0, strengths + np.float32(shift)
            )
            rounded = np.round(maps / STEP).astype(np.float32) * np.float32(STEP)
            found.append(pixel_family(count_pixels(rounded, masks, self.threshold), self.threshold, LIMIT))
        return found, groups, {}
