"""A convolutional autoencoder of pixels, Bergmann et al. 2019 (arXiv:1807.02011); it asks nothing of the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_defect.nets.anomaly.base import enlarged
from ssl_defect.nets.anomaly.differences import Error, difference
from ssl_defect.nets.anomaly.options import Options as Base
from ssl_defect.nets.anomaly.options import TrainedOptions
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.backbones import Encoder

SMALLEST = 8  # side of the maps below which all is joined into the code, as in the paper
WIDEST = 128
SLOPE = 0.2  # of the leaky ReLU, as in the paper


class Options(Base, TrainedOptions):
    """Settings of the autoencoder."""

    error: Error = Field("ssim", description="What is learnt and measured: 1 - SSIM, or the squared difference (l2).")
    code: int = Field(100, ge=1, le=4096, description="Numbers that a picture is squeezed into.")
    width: int = Field(16, ge=4, le=256, description="Channels of the finest maps; they double up to 128.")


class Autoencoder(TrainedHead):
    """Good pictures are squeezed into a short code and painted from it; what is not painted well is not good.

    It looks at pixels alone: the encoder plays no part, whichever it is.

    Options:
        error: `ssim` or `l2`.
        code: length of the code.
        width: channels of the finest maps.
    """

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__(encoder, options)
        self.error: Error = options["error"]
        self.painter = Hourglass(encoder.image_size, options["width"], options["code"])

    def loss(self, encoder: Encoder, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The mean difference over all pixels."""
        return {"loss": difference(x, self.painted(x), self.error).mean()}

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distances" (B, S, S) of the pixels, and "distance" (B,), the maximum of the smoothed map."""
        distances = difference(x, self.painted(x), self.error)
        return {"distance": enlarged(distances, self.size).amax(dim=(1, 2)), "distances": distances}

    def painted(self, x: Tensor) -> Tensor:
        """Pictures (B, 1 or 3, S, S) in [0, 1] -> pictures of the same shape."""
        found: Tensor = self.painter(x.expand(-1, 3, -1, -1))
        return found if x.shape[1] == 3 else found.mean(dim=1, keepdim=True)


class Hourglass(nn.Module):
    """Halved by 4x4 convolutions to at most 8 x 8, all of that to a code, and back.

    With BatchNorm, which the paper does without: a few hundred steps are enough. Maps are enlarged by repeating their
    cells, which leaves no checkerboard.

    Args:
        size: side of the pictures.
        width: channels of the finest maps.
        code: length of the code.
    """

    def __init__(self, size: int, width: int, code: int) -> None:
        super().__init__()
        self.sides = [size, size // 2]
        while self.sides[-1] > SMALLEST:
            self.sides.append(self.sides[-1] // 2)
        widths = [3, *(max(width, min(width << level, WIDEST)) for level in range(len(self.sides) - 1))]
        self.down = nn.Sequential(*(_layer(nn.Conv2d(a, b, 4, 2, 1), b) for a, b in pairwise(widths)))
        self.shape = (widths[-1], self.sides[-1], self.sides[-1])
        whole = widths[-1] * self.sides[-1] ** 2
        self.encode = nn.Linear(whole, code)
        self.decode = nn.Linear(code, whole)
        self.up = nn.ModuleList(_layer(nn.Conv2d(a, b, 3, padding=1), b) for a, b in pairwise(widths[:0:-1]))
        self.leave = nn.Conv2d(widths[1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 3, S, S)."""
        code = self.encode(self.down(x).flatten(1))
        x = F.leaky_relu(self.decode(code), SLOPE).view(-1, *self.shape)
        for side, layer in zip(self.sides[-2::-1], [*self.up, self.leave], strict=True):
            x = layer(F.interpolate(x, size=(side, side), mode="nearest"))
        return x


def _layer(convolution: nn.Conv2d, width: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE, inplace=True))


HEADS = {"autoencoder": Autoencoder}
OPTIONS = {"autoencoder": Options}
