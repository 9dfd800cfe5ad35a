"""anomalib's side: PatchCore and PaDiM as it has them, on our weights; and our side in the same terms.

What is taken from anomalib is its own: features, coreset, covariance, scores, maps and their smoothing
(`anomalib.models.image.{patchcore,padim}.torch_model`). Only the weights are put in, and pictures are normalised as
its pre-processor would, with the mean and deviation that the weights were made with.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.nets.anomaly.base import AnomalyHead
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.detector import Detector, Spec
from ssl_defect.nets.folding import folded
from ssl_defect.train.device import lay_out

Batches = Callable[[], Iterator[Tensor]]
DIMENSIONS, NEIGHBOURS = 100, 9


class Side(Protocol):
    """A detector of either side; pictures are (B, C, S, S) in [0, 1]."""

    def fit(self, batches: Batches, seed: int) -> dict[str, float]:
        """Seconds of the features ("features") and of all else ("rest")."""

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B,) and maps (B, S, S)."""


class Watch:
    """Sums up what a function takes."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work, self.seconds = work, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        found = self.work(*args, **kwargs)
        self.seconds += time.perf_counter() - began
        return found


class Peer:
    """anomalib's.

    Args:
        name: `patchcore` or `padim`.
        strides: of the maps, as ours.
        count: patches that the coreset of `patchcore` keeps.
        patches: of all training pictures.
    """

    def __init__(self, name: str, encoder: Encoder, strides: tuple[int, ...], count: int, patches: int) -> None:
        logging.getLogger("anomalib").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kinds = import_module(f"anomalib.models.image.{name}.torch_model")
        layers = layer_names(encoder, strides)
        about: dict[str, Any] = {"backbone": encoder.name, "layers": layers, "pre_trained": False}
        if name == "padim":
            self.model = kinds.PadimModel(**about, n_features=DIMENSIONS)
        else:
            self.model = kinds.PatchcoreModel(**about, num_neighbors=NEIGHBOURS)
        self.name, self.encoder, self.ratio = name, encoder, (count + 0.5) / patches
        body = self.model.feature_extractor.feature_extractor
        theirs, ours = body.state_dict(), encoder.body.state_dict()
        body.load_state_dict({key: ours[key] for key in theirs})

    def fit(self, batches: Batches, seed: int) -> dict[str, float]:
        began = time.perf_counter()
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - what its projection draws from
        extractor = self.model.feature_extractor
        extractor.forward = watch = Watch(extractor.forward)
        self.model.train()
        with torch.no_grad():
            for x in batches():
                self.model(self.encoder.prepare_input(x))
            if self.name == "padim":
                self.model.fit()
            else:
                self.model.subsample_embedding(self.ratio)
        self.model.eval()
        extractor.forward = watch.work
        return {"features": watch.seconds, "rest": time.perf_counter() - began - watch.seconds}

    @torch.no_grad()
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(self.encoder.prepare_input(x))
        return found.pred_score.flatten(), found.anomaly_map[:, 0]


class Ours:
    """As the stage `anomaly` makes it; the scale of its scores comes from the first batch, which changes no order."""

    def __init__(self, name: str, encoder: Encoder, strides: tuple[int, ...], share: float, pictures: int) -> None:
        import_module("sklearn.cluster")  # before the clock runs, as all modules of the other side are
        module = import_module(DETECTORS[name][0])
        given: dict[str, Any] = {"strides": strides}
        given |= {"dimensions": DIMENSIONS} if name == "padim" else {"share": share, "neighbours": NEIGHBOURS}
        chosen = {"detector": name, **module.OPTIONS[name](**given).model_dump(mode="json")}
        measured = module.HEADS[name].measured(encoder, chosen, pictures)
        size = encoder.image_size
        spec = Spec("anomaly", encoder.name, size, 1, ["good", "defective"], chosen | measured)
        self.detector = Detector(encoder, spec)
        lay_out(self.detector)
        self.detector.eval()

    def fit(self, batches: Batches, seed: int) -> dict[str, float]:
        began = time.perf_counter()
        encoder = self.detector.encoder = folded(self.detector.encoder)  # as the stages do
        head = self.detector.head
        assert isinstance(head, AnomalyHead)
        body = encoder.body
        body.forward_intermediates = watch = Watch(body.forward_intermediates)
        with torch.no_grad():
            head.fit(encoder, batches, seed)
        body.forward_intermediates = watch.work
        found = {"features": watch.seconds, "rest": time.perf_counter() - began - watch.seconds}
        with torch.no_grad():
            seen = head(encoder, next(batches()))
            head.calibrate(seen["distance"].quantile(0.99), seen["distances"].quantile(0.99))
        return found

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            found = self.detector.predict(x)
        return found["score"], found["map"]


def layer_names(encoder: Encoder, strides: tuple[int, ...]) -> list[str]:
    """timm's names of the maps of these strides, as anomalib wants them."""
    import timm

    about = timm.create_model(encoder.name, pretrained=False, features_only=True).feature_info
    by_stride = dict(zip(about.reduction(), about.module_name(), strict=True))
    return [by_stride[stride] for stride in strides]


def same_features(peer: Peer, encoder: Encoder, strides: tuple[int, ...], x: Tensor) -> float:
    """Largest difference of the maps that both sides look at, relative to the largest value."""
    with torch.no_grad():
        theirs = list(peer.model.feature_extractor(encoder.prepare_input(x)).values())
        ours = encoder.pyramid(x)
    worst = 0.0
    for stride, other in zip(strides, theirs, strict=True):
        mine = ours[encoder.reductions.index(stride)]
        worst = max(worst, float((mine - other).abs().max() / other.abs().max()))
    return worst
