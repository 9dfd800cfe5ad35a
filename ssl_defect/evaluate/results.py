"""What is known of one evaluation once the thresholds are chosen: handed from measuring to writing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_defect.config import Recipe
from ssl_defect.data.store import Store
from ssl_defect.evaluate import regions
from ssl_defect.evaluate.bootstrap import Resampling
from ssl_defect.evaluate.inference import Predictions
from ssl_defect.evaluate.metrics import Array
from ssl_defect.evaluate.thresholds import Threshold, image_threshold, pixel_threshold


@dataclass(frozen=True)
class Results:
    """Everything known of one evaluation; arrays are in the order of `found.rows`: validation first, then test.

    Attributes:
        split: number of validation images.
        masked: (n,) True where the mask tells of every pixel: good images, and defective ones with a drawn mask.
        pixel: None where there are no maps or no masks.
    """

    recipe: Recipe
    store: Store
    found: Predictions
    split: int
    masked: Array
    image: Threshold
    pixel: Threshold | None
    spec: Resampling

    @property
    def test(self) -> Array:
        """(n_test,) rows of the test images in the store."""
        return self.found.rows[self.split :]

    @property
    def labels(self) -> Array:
        """(n_test,)"""
        return self.store.labels[self.test]

    @property
    def scores(self) -> Array:
        """(n_test,)"""
        return self.found.scores[self.split :]

    @property
    def groups(self) -> Array:
        """(n_test,)"""
        return self.store.groups[self.test]

    @property
    def defects(self) -> list[str]:
        """Class of each test image."""
        names = self.store.defects
        return [names[row] for row in self.test]

    def by_class(self) -> dict[str, Array]:
        """Defect class -> (n_test,) True for its images and for all good ones; in the order of their names."""
        defects, labels = np.array(self.defects), self.labels
        names = sorted(set(defects[labels > 0]))
        return {str(name): (labels == 0) | ((labels > 0) & (defects == name)) for name in names}


class Rows:
    """Some rows of an array, one at a time, so that a memory map is never copied whole."""

    def __init__(self, array: Array, rows: Array) -> None:
        self.array, self.rows = array, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Array:
        if position >= len(self.rows):
            raise IndexError(position)
        row: Array = self.array[self.rows[position]]
        return row


def decide(recipe: Recipe, store: Store, found: Predictions, split: int) -> Results:
    """Choose both thresholds on the first `split` rows of `found`, the validation images."""
    labels = store.labels[found.rows]
    masked = labels == 0
    if store.masks is not None:
        masked |= np.array([store.masks[row].any() for row in found.rows])
    pixel = None
    if found.maps is not None and store.masks is not None:
        counts = count(found.maps, store, found.rows, np.flatnonzero(masked[:split]), None)
        pixel = pixel_threshold(*regions.totals(counts), counts.levels, recipe.evaluate.threshold)
    settings = recipe.evaluate
    image = image_threshold(labels[:split], found.scores[:split], settings.threshold, settings.quantile, settings.level)
    spec = Resampling(settings.bootstrap, settings.level, recipe.seed)
    return Results(recipe, store, found, split, masked, image, pixel, spec)


def count(maps: Array, store: Store, rows: Array, keep: Array, threshold: float | None) -> regions.PixelCounts:
    """Pixel counts of the maps at the positions `keep`, under the masks of the store."""
    assert store.masks is not None
    names = [store.samples[row].image for row in rows[keep]]
    return regions.count_pixels(Rows(maps, keep), Rows(store.masks, rows[keep]), threshold, names)
