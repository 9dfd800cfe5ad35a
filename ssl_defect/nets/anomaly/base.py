"""What every detector of anomalies is: fitted on good pictures, then distances, then scores and maps in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.heads import Head

SMOOTH = 1 / 64  # standard deviation of the map's smoothing as a share of the side: 4 of 256 pixels, as in PatchCore
STEEPNESS = 4
Pictures = Callable[[], Iterator[Tensor]]
"""Starts anew at each call: batches of pictures (B, C, S, S) in [0, 1] on the encoder's device."""


class AnomalyHead(Head):
    """The interface. A distance becomes a score in [0, 1) that keeps the order and is 0.5 at a scale, see `squashed`.

    Attributes:
        size: side of the pictures, in pixels.
        image_scale, pixel_scale: distances that good validation pictures rarely exceed.
        steepness: of the image's score about its scale.
    """

    image_scale: Tensor
    pixel_scale: Tensor
    steepness: Tensor

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.size = encoder.image_size
        self.options = options
        self.register_buffer("image_scale", torch.ones(()))
        self.register_buffer("pixel_scale", torch.ones(()))
        self.register_buffer("steepness", torch.tensor(float(STEEPNESS)))

    @classmethod
    def measured(cls, encoder: Encoder, options: Mapping[str, Any], pictures: int) -> dict[str, int]:
        """Sizes of what will be learnt from so many pictures, to be kept among the options."""
        return {}

    def fit(self, encoder: Encoder, pictures: Pictures, seed: int) -> None:
        """Learn what good looks like; call it in eval mode and without gradients."""
        raise NotImplementedError

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distance" (B,), and "distances" (B, h, w) where there is a map; at least 0."""
        raise NotImplementedError

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> "score" (B,), and "map" (B, S, S) where there are distances of places."""
        found = {"score": squashed(outputs["distance"], self.image_scale, self.steepness)}
        if "distances" in outputs:
            found["map"] = squashed(enlarged(outputs["distances"], self.size), self.pixel_scale)
        return found

    def calibrate(self, image: Tensor, pixel: Tensor | None) -> None:
        """Set the scales to distances that lie at the border of what good pictures have."""
        self.image_scale.fill_(float(image.clamp_min(torch.finfo(image.dtype).tiny)))
        if pixel is not None:
            self.pixel_scale.fill_(float(pixel.clamp_min(torch.finfo(pixel.dtype).tiny)))


def squashed(distance: Tensor, scale: Tensor, steepness: Tensor | float = STEEPNESS) -> Tensor:
    """Distances at least 0 to [0, 1]: the order stays, and `scale` becomes 0.5.

    `r^k / (1 + r^k)` of `r = d / scale`, which is the logistic function of `k log r`: distances of good and of
    defective parts differ by little more than a factor of two, and without the power all scores would lie close to one
    half.
    """
    return 1 / (1 + (scale / distance) ** steepness)  # so that neither 0 nor a huge distance becomes NaN


def enlarged(distances: Tensor, size: int) -> Tensor:
    """Distances (B, h, w) at the size of the pictures (B, S, S), smoothed by a Gaussian; nothing is lost at the border.

    The Gaussian is normalised over what lies within the picture, so that a border is not darker than the middle.
    Enlarging and smoothing are linear and go one axis after the other: a matrix for each.
    """
    rows, columns = (_enlarging(n, size, distances.device, distances.dtype) for n in distances.shape[-2:])
    return rows @ distances @ columns.T


@lru_cache(maxsize=8)
def _enlarging(count: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(size, count): bilinear enlargement along an axis, then the Gaussian."""
    with torch.inference_mode(False):  # kept for calls with gradients too
        eye = torch.eye(count, device=device, dtype=dtype)[None]
        linear = F.interpolate(eye, size=size, mode="linear", align_corners=False)[0].T
        sigma = SMOOTH * size
        places = torch.arange(size, device=device, dtype=dtype)
        apart = places[:, None] - places
        kernel = torch.exp(-apart.square() / (2 * sigma**2)).masked_fill(apart.abs() > max(1, round(3 * sigma)), 0)
        found: Tensor = kernel / kernel.sum(1, keepdim=True) @ linear
        return found
