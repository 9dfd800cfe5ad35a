"""Pixel metrics and curves of the test maps, of all or of any part of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_defect.evaluate import regions
from ssl_defect.evaluate.bands import pixel_bands
from ssl_defect.evaluate.bootstrap import intervals
from ssl_defect.evaluate.kept_counts import Kept
from ssl_defect.evaluate.metrics import Array, pr_curve, roc_curve, subset
from ssl_defect.evaluate.results import Results, count


class Pixels:
    """Counts of the test maps whose masks are known; `wanted` (n_test,) is True for the test images of a part."""

    def __init__(self, results: Results) -> None:
        assert results.pixel is not None
        assert results.found.maps is not None
        self.results, self.threshold = results, results.pixel.value
        self.limit = results.recipe.evaluate.aupro_limit
        self.known = results.masked[results.split :]
        keep = results.split + np.flatnonzero(self.known)
        self.counts = count(results.found.maps, results.store, results.found.rows, keep, self.threshold)
        self.groups = results.groups[self.known]

    def kept(self) -> Kept:
        """What a run keeps of them."""
        return Kept(self.counts, np.flatnonzero(self.known), self.threshold)

    def part(self, wanted: Array) -> tuple[Array, regions.PixelCounts]:
        """Positions (k,) among the known images, and the counts of these alone."""
        part = np.flatnonzero(wanted[self.known])
        return part, self.counts if len(part) == len(self.groups) else regions.take(self.counts, part)

    def measure(self, wanted: Array) -> dict[str, Any]:
        """Metrics with intervals."""
        part, counts = self.part(wanted)
        family = subset(regions.pixel_family(counts, self.threshold, self.limit), part)
        found = intervals(family, self.groups, self.results.spec)
        return {**found, "aupro_limit": self.limit, "images": len(part)}

    def curves(self, wanted: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        """Pixel ROC, pixel PR and the PRO curve, and the bands of the three: empty where there are none."""
        part, counts = self.part(wanted)
        tp, fp = regions.totals(counts)
        found = {
            "pixel_roc": roc_curve(tp, fp, counts.levels),
            "pixel_pr": pr_curve(tp, fp, counts.levels),
            "pro": regions.pro_curve(counts),
        }
        return found, pixel_bands(counts, self.groups[part], self.results.spec, self.limit) or {}
