"""Thresholds of the image score: which are worth looking at, how one is chosen, and what it finds and misses.

`score >= threshold` is called defective. The thresholds worth looking at lie midway between neighbouring scores, for
between them no verdict changes: k distinct scores have k + 1 such cuts. A threshold is chosen on validation images
where they hold both classes, and measured on test images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_defect.report.records import Prediction

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1] of good (n,) and of defective (m,) images, each in rising order."""

    good: Array
    defective: Array

    @property
    def both(self) -> bool:
        """Whether there is at least one image of each."""
        return bool(len(self.good) and len(self.defective))

    @property
    def share(self) -> float:
        """Share of defective images, in [0, 1]."""
        return len(self.defective) / (len(self.good) + len(self.defective))

    @property
    def top(self) -> float:
        """A score above all: 1, or where that is reached the next float."""
        highest = max(self.good[-1], self.defective[-1])
        return max(1.0, float(np.nextafter(highest, 2.0)))

    def wrong(self, thresholds: Array) -> tuple[Counts, Counts]:
        """Numbers (k,) of escaped defects and of false alarms at each of the thresholds (k,)."""
        missed = np.searchsorted(self.defective, thresholds, side="left")
        return missed, len(self.good) - np.searchsorted(self.good, thresholds, side="left")

    def cuts(self) -> Array:
        """(k + 1,) rising thresholds that tell k distinct scores apart: from all called defective to none."""
        levels = np.unique(np.concatenate([self.good, self.defective]))
        below, above = np.append(0.0, levels), np.append(levels, self.top)
        middle = below + (above - below) / 2
        return np.where(middle > below, middle, above)  # of two neighbouring floats the middle may be the lower one


def sides(predictions: Sequence[Prediction]) -> Scores:
    """The scores of some images by their label."""
    good, bad = ([one.score for one in predictions if bool(one.label) == wanted] for wanted in (False, True))
    return Scores(np.sort(np.array(good, np.float64)), np.sort(np.array(bad, np.float64)))


Rule = Callable[[Scores, float], float]


def recall_of(wanted: float) -> Rule:
    """The highest cut that finds at least this share of the defective images."""

    def threshold(scores: Scores, share: float) -> float:
        cuts = scores.cuts()
        found = 1 - scores.wrong(cuts)[0] / len(scores.defective)
        return float(cuts[np.flatnonzero(found >= wanted - 1e-12)[-1]])

    return threshold


def alarms_of(allowed: float) -> Rule:
    """The lowest cut that calls at most this share of the good images defective."""

    def threshold(scores: Scores, share: float) -> float:
        cuts = scores.cuts()
        return float(cuts[np.flatnonzero(scores.wrong(cuts)[1] / len(scores.good) <= allowed + 1e-12)[0]])

    return threshold


def cheapest(miss: float, alarm: float) -> Rule:
    """The cut of least expected cost where a share of the parts is defective; of equal ones the highest."""

    def threshold(scores: Scores, share: float) -> float:
        cuts = scores.cuts()
        missed, alarms = scores.wrong(cuts)
        cost = share * (missed / len(scores.defective)) * miss + (1 - share) * (alarms / len(scores.good)) * alarm
        return float(cuts[np.flatnonzero(cost == cost.min())[-1]])

    return threshold


def best_f1(scores: Scores, share: float) -> float:
    """The cut of largest F1; of equal ones the highest."""
    cuts = scores.cuts()
    missed, alarms = scores.wrong(cuts)
    found = len(scores.defective) - missed
    f1 = 2 * found / (2 * found + missed + alarms)
    return float(cuts[np.flatnonzero(f1 == f1.max())[-1]])


RULES: tuple[tuple[str, Rule], ...] = (
    ("recall of at least 95%", recall_of(0.95)),
    ("recall of at least 99%", recall_of(0.99)),
    ("false alarms on at most 1% of the good", alarms_of(0.01)),
    ("false alarms on at most 5% of the good", alarms_of(0.05)),
    ("cheapest, a miss as dear as a false alarm", cheapest(1, 1)),
    ("cheapest, a miss 10 times as dear", cheapest(10, 1)),
)


@dataclass(frozen=True)
class Point:
    """A threshold and what it does to the test images; precision and F1 are None where nothing is called or true."""

    name: str
    threshold: float
    chosen_on: str
    missed: int
    alarms: int
    precision: float | None
    recall: float
    f1: float
    alarm_rate: float


def measured(name: str, threshold: float, chosen_on: str, test: Scores) -> Point:
    """The point of a threshold on test images that hold both classes."""
    missed, alarms = (int(count[0]) for count in test.wrong(np.array([threshold])))
    found = len(test.defective) - missed
    return Point(
        name=name,
        threshold=threshold,
        chosen_on=chosen_on,
        missed=missed,
        alarms=alarms,
        precision=found / (found + alarms) if found + alarms else None,
        recall=found / len(test.defective),
        f1=2 * found / (2 * found + missed + alarms),
        alarm_rate=alarms / len(test.good),
    )


def points(chosen: tuple[float, str], test: Scores, validation: Scores) -> list[Point]:
    """The run's own threshold, those of the rules, and last the one that looks best on the test images themselves."""
    source, name = (validation, "validation") if validation.both else (test, "test")
    found = [measured(chosen[1], chosen[0], "validation", test)]
    found += [measured(text, rule(source, test.share), name, test) for text, rule in RULES]
    return [*found, measured("max F1 on the test images themselves", best_f1(test, test.share), "test", test)]
