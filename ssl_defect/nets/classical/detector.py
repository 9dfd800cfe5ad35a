"""A classical detector: what the later stages ask of a detector, answered without an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_defect.nets.classical.base import Floats, Method, Pixels
from ssl_defect.nets.classical.golden import Golden
from ssl_defect.nets.classical.template import Template
from ssl_defect.nets.classical.texture import Texture
from ssl_defect.nets.classical.thresholding import Adaptive, Thresholding
from ssl_defect.nets.detector import Detector, Spec

CLASSICAL = "classical"  # the task's name
PREFIX = "fitted."  # of the names in the file
KINDS: dict[str, type[Method]] = {
    "otsu": Thresholding,
    "adaptive": Adaptive,
    "golden": Golden,
    "template": Template,
    "lbp": Texture,
    "glcm": Texture,
    "gabor": Texture,
    "texture": Texture,
}


class ClassicalDetector(Detector):
    """A fitted method in the place of encoder and head; it computes on the CPU, whatever device it is moved to.

    Args:
        fitted: all that the method learnt, by name, with or without the prefix of the file.
    """

    def __init__(self, spec: Spec, fitted: Mapping[str, Tensor]) -> None:
        nn.Module.__init__(self)  # not Detector's, which builds a head on an encoder
        self.spec = spec
        self.fitted, arrays = nn.Module(), {}
        for name, value in fitted.items():
            self.fitted.register_buffer(name.removeprefix(PREFIX), value)
            arrays[name.removeprefix(PREFIX)] = value.cpu().numpy()
        self.method = KINDS[spec.options["method"]](arrays, spec.options)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """What `predict` gives: there are no logits."""
        return self.predict(x)

    @torch.no_grad()
    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Pictures (B, C, S, S) in [0, 1] -> "score" (B,) and, unless it is by texture, "map" (B, S, S), in [0, 1]."""
        return {name: self._back(value, x) for name, value in self.method.predict(_pixels(x)).items()}

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Pictures (B, C, S, S) in [0, 1] -> (B, width): texture features, or the map over 8 x 8 cells."""
        return self._back(self.method.features(_pixels(x)), x)

    @staticmethod
    def _back(values: Floats, x: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(x.device)


def fitted_tensors(fitted: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a method learnt, as tensors to be saved."""
    return {name: torch.from_numpy(np.array(value)) for name, value in fitted.items()}


def _pixels(x: Tensor) -> Pixels:
    """(B, C, S, S) in [0, 1] -> (B, S, S, C) in [0, 255]: exact for pictures that were 8 bits."""
    pixels: Pixels = (x.detach() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(pixels)
