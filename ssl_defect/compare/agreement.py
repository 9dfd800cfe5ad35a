"""Where detectors disagree: counts of shared and single mistakes, McNemar's test, and the most contested images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, rankdata

from ssl_defect.compare.runs import Run


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value that of the images which one alone gets right, each is as likely to be either's.

    McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika, 1947, with the
    binomial distribution instead of its chi-squared limit. It takes images as independent.
    """
    if not only_a + only_b:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def agreement(a: Run, b: Run) -> dict[str, float]:
    """Numbers of test images that both get right, both get wrong, and one alone gets right; and `p` of `mcnemar`."""
    right_a, right_b = (run.called == (run.labels > 0) for run in (a, b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    both, none = int((right_a & right_b).sum()), int((~right_a & ~right_b).sum())
    return {"both": both, "none": none, "a": only_a, "b": only_b, "p": mcnemar(only_a, only_b)}


def contested(runs: Sequence[Run], limit: int) -> list[int]:
    """Places of the test images on which the runs disagree most, one of each group of near-copies.

    First those that split the verdicts most evenly, then those whose ranks by score lie furthest apart; images on which
    all agree in both are left out.
    """
    votes = np.sum([run.called for run in runs], axis=0)
    split = np.minimum(votes, len(runs) - votes)
    ranks = np.stack([rankdata(run.scores) for run in runs])
    spread = np.ptp(ranks, axis=0)
    chosen: list[int] = []
    seen: set[int] = set()
    for place in np.lexsort((np.arange(len(split)), -spread, -split)):
        group = int(runs[0].groups[place])
        if group not in seen and (split[place] or spread[place]):
            seen.add(group)
            chosen.append(int(place))
    return chosen[:limit]
