"""From the spread of an estimate to its interval: parts of a variance, the degrees of freedom of each, and t.

The chance of the test set is told by leaving out one near-copy group after the other (the jackknife: Efron &
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11): the bootstrap's linear part, without draws. A variance
that rests on few groups is itself uncertain. Student's t allows for that, with Satterthwaite's degrees of freedom
(Biometrics Bulletin 2 (1946) 110; for resampled variances Rust & Rao, Stat. Methods in Medical Research 5 (1996) 283).

Where parts of different origin add up, such as test groups and seeds, the interval is Banerjee's (Sankhya 22 (1960)
357): its square is the sum of the squares of the parts' intervals. Of normal parts it covers at least as often as it
says, which one t of joint degrees of freedom does not where a part has but one or two, as with two or three seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, stdtr, stdtrit  # Student's t without the checks of scipy.stats.t

from ssl_defect.evaluate.metrics import Array

LEAST_P = 1e-12


@dataclass(frozen=True)
class Part:
    """A part of the variance of an estimate, and the degrees of freedom it is told with."""

    variance: float
    freedom: float


def freedom(effects: Array) -> float:
    """Degrees of freedom of the variance that the effects (n,) of independent units make up, in [1, n - 1].

    Satterthwaite's `2 (sum u^2)^2 / sum u^4`, each effect u taken for a variance of one degree; its kurtosis is in it.
    What counts of an AUROC with 20 defective parts among 2,000 are mostly the 20, however many good ones there are.
    """
    squares = effects**2
    total = squares.sum()
    if not total > 0:
        return len(effects) - 1.0
    return float(np.clip(2 / ((squares / total) ** 2).sum(), 1, len(effects) - 1))


def of_groups(without: Array) -> Part:
    """The chance of the test set, from the values (n,) without each of n units in turn.

    The variance is NaN where one of the values is; without two units there is no degree of freedom.
    """
    count = len(without)
    if count < 2:
        return Part(0.0, 0.0)
    away = without - without.mean()
    return Part(float((away**2).sum()) * (count - 1) / count, freedom(away))


def of_seeds(points: Array) -> Part:
    """The chance of the training in a mean over seeds: the values (n,) of n >= 2 seeds on the test set as it is."""
    return Part(float(points.var(ddof=1)) / len(points), len(points) - 1.0)


def reach(parts: Sequence[Part], level: float) -> float:
    """How far the interval reaches to each side: root of the sum of `t^2 variance`."""
    return float(np.sqrt(sum(stdtrit(part.freedom, (1 + level) / 2) ** 2 * part.variance for part in parts)))


def p_value(value: float, parts: Sequence[Part]) -> float | None:
    """Two-sided p of a difference: 1 less the level whose interval just reaches zero; None where nothing varies."""
    there = [part for part in parts if part.variance > 0]
    if not there:
        return None
    if len(there) == 1:
        return float(2 * stdtr(there[0].freedom, -abs(value) / np.sqrt(there[0].variance)))
    if reach(there, 1 - LEAST_P) <= abs(value):
        return LEAST_P

    def short(power: float) -> float:
        return reach(there, 1 - np.exp(power)) - abs(value)

    return 1.0 if not value else float(np.exp(brentq(short, np.log(LEAST_P), 0.0)))


def ends(value: float, parts: Sequence[Part], level: float, share: bool = False) -> tuple[float, float]:
    """The interval about `value`; that of a share strictly between 0 and 1 is straight on the logit scale."""
    away = reach(parts, level)
    if not share:
        return value - away, value + away
    low, high = expit(logit(value) + np.array([-away, away]) / (value * (1 - value)))
    return float(low), float(high)
