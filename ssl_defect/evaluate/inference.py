"""The detector over many images, batch by batch; maps go to disk, so that memory stays flat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_defect.config import ComputeSettings
from ssl_defect.console import track
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.evaluate.metrics import Array
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.detector import Detector
from ssl_defect.nets.folding import folded
from ssl_defect.train.device import keep_freed_memory, lay_out, resolve_device, resolve_precision
from ssl_defect.train.pairs import partner_rows

BATCH = 32
EXACT = ("classical", "anomaly")  # without an encoder, or by small differences of large distances


@dataclass(frozen=True)
class Predictions:
    """What the detector says of n images, in the order of `rows`.

    Attributes:
        rows: (n,) row numbers in the store.
        scores: (n,) float64 in [0, 1].
        probabilities: (n, K) or None.
        maps: float32 (n, S, S) in [0, 1], memory-mapped, or None.
        features: (n, width).
        features_before: (n, width) of the encoder that fine-tuning started from, or None.
        seconds: of the predictions alone, without features.
        others: what else the detector gives, by name, each (n, ...); such as "value" of a regression.
    """

    rows: Array
    scores: Array
    probabilities: Array | None
    maps: Array | None
    features: Array
    seconds: float
    others: dict[str, Array] = field(default_factory=dict)
    features_before: Array | None = None


class Runner:
    """A detector on its device, in the precision and the layout that suit it.

    Its batch norms are folded: it predicts, and is not to be saved or trained any more.
    """

    def __init__(self, detector: Detector, compute: ComputeSettings) -> None:
        if compute.threads:
            torch.set_num_threads(compute.threads)
        keep_freed_memory()
        self.device = resolve_device(compute)
        exact = detector.spec.task in EXACT
        self.precision = "float32" if exact else resolve_precision(compute, self.device, detector.encoder)
        self.detector = detector
        self._partners: tuple[Store, Array] | None = None
        if isinstance(getattr(detector, "encoder", None), Encoder):  # a classical method has none
            detector.encoder = folded(detector.encoder)
        lay_out(detector).to(self.device).eval()

    def settle(self, encoder: Encoder) -> Encoder:
        """Another encoder, to be asked for features beside the detector: folded and on the device as well."""
        settled = folded(encoder)
        lay_out(settled).to(self.device)
        return settled

    def pictures(self, store: Store, rows: Array) -> Tensor:
        """Rows of the store as float pictures (B, C, S, S) in [0, 1] on the device.

        For a detector of pairs (B, 2C, S, S), the partner within the same group and split behind the picture.
        """
        images = store.images[rows]
        if self.detector.spec.options.get("pair") == "group":
            if self._partners is None or self._partners[0] is not store:
                self._partners = store, partner_rows(store)
            images = np.concatenate([images, store.images[self._partners[1][rows]]], axis=3)
        pictures = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        return pictures.permute(0, 3, 1, 2).float() / 255

    def features(self, pictures: Tensor, before: Encoder | None) -> dict[str, Array]:
        """Pooled features (B, width) of `pictures`, by the detector and, where it is given, by the encoder before."""
        found = {"features": self.detector.features(pictures)}
        if before is not None:
            found["features_before"] = before(pictures[:, : self.detector.spec.channels])
        return {name: _array(value) for name, value in found.items()}

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, and bfloat16 where it suits."""
        low = self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device, dtype=torch.bfloat16, enabled=low):
            yield


def run(
    runner: Runner, store: Store, rows: Array, place: Path, features_from: int, before: Encoder | None = None
) -> Predictions:
    """Predict `rows` of the store; maps are written to the file `place`.

    Args:
        features_from: features are taken of the rows from this position on; `len(rows)` takes none.
        before: an encoder whose features are taken as well, at the cost of one pass through it.

    Raises:
        UserError: a score is NaN or infinite.
    """
    parts: dict[str, list[Array]] = {"score": []}
    before = runner.settle(before) if before is not None else None
    maps: Array | None = None
    seconds = 0.0
    starts = range(0, len(rows), BATCH)
    for start in track(starts, len(starts), "evaluate: predicting"):
        batch = rows[start : start + BATCH]
        pictures = runner.pictures(store, batch)
        began = time.perf_counter()
        with runner.inference():
            found = {name: _array(value) for name, value in runner.detector.predict(pictures).items()}
        seconds += time.perf_counter() - began
        _refuse_nan(found, store, batch)
        if start + len(batch) > features_from:
            with runner.inference():
                pooled = runner.features(pictures, before)
            for name, values in pooled.items():
                parts.setdefault(name, []).append(values[max(0, features_from - start) :])
        if "map" in found:
            maps = _open(place, len(rows), found["map"]) if maps is None else maps
            maps[start : start + len(batch)] = found.pop("map")
        for name, values in found.items():
            parts.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in parts.items() if values}
    scores = joined.pop("score", np.zeros(0)).astype(np.float64)
    features, earlier = joined.pop("features", np.zeros((0, 0))), joined.pop("features_before", None)
    return Predictions(rows, scores, joined.pop("probabilities", None), maps, features, seconds, joined, earlier)


def _array(values: Tensor) -> Array:
    """As float32, numbers of classes as they are: a byte a pixel."""
    found: Array = (values.float() if values.is_floating_point() else values).cpu().numpy()
    return found


def _open(place: Path, count: int, example: Array) -> Array:
    shape = (count, *example.shape[1:])
    maps: Array = np.lib.format.open_memmap(place, mode="w+", dtype=np.float32, shape=shape)
    return maps


def _refuse_nan(found: dict[str, Array], store: Store, rows: Array) -> None:
    whole = [np.isfinite(values).reshape(len(rows), -1).all(1) for values in found.values()]
    wrong = np.flatnonzero(~np.all(whole, axis=0))
    if len(wrong):
        name = store.samples[int(rows[wrong[0]])].image
        raise UserError(f"{name}: the detector gives NaN or infinity; train it again with a lower learning rate")
