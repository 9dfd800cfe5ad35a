"""Rotation prediction (Gidaris, Singh, Komodakis: Unsupervised representation learning by predicting image rotations,
ICLR 2018, arXiv:1803.07728).

It can only work where parts lie the same way in every picture. Screws photographed in any direction are told apart by
it worse than by a coin: 35.8 image AUROC in Table 1 of CutPaste (Li et al. 2021). The accuracy shows it: it stays at
0.25. So does any picture whose four turns look alike, such as an even surface.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional

from ssl_defect.config import Settings
from ssl_defect.data.augment import Crop, random_geometry, random_light, random_noise, to_float
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.projection import mlp
from ssl_defect.pretrain.base import Facts, Method, Views
from ssl_defect.pretrain.ranges import Shares
from ssl_defect.train.plan import Batch

TURNS = 4


class Options(Settings):
    """Settings of rotation prediction. There are no quarter turns and no upside-down mirror: they are the answer."""

    crop: Shares = Field(
        (0.5, 1.0), description="Share of the area kept, as a square. From half on: less often loses what is upright."
    )
    mirror: bool = Field(
        True, description="Mirror left and right, before the turn: what was upright stays so. Off for lettering."
    )
    light: float = Field(
        0.2,
        ge=0,
        description="Log-range of brightness, contrast and gamma: exposure varies from shot to shot, and is no answer.",
    )
    noise: float = Field(0.02, ge=0, description="Greatest standard deviation of sensor noise, of a range of 1.")


class Rotation(Method):
    """Which of four quarter turns a picture was given is to be told from the picture."""

    advice: ClassVar[str] = "rotation needs parts that always lie the same way; where they do not, take another method"
    logs: ClassVar[dict[str, str]] = {
        "accuracy": "share of turns told right, in [0, 1]; it stays at 0.25, chance, where parts lie in any direction"
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "view", "turned by 90 degrees", "by 180", "by 270")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.head = mlp([encoder.width, encoder.width, TURNS])
        self.chance = math.log(TURNS)

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "image" (B, C, S, S) in [0, 1], not turned yet: the turns hold no chance."""
        return {"image": self.upright(to_float(batch["image"]), batch["generator"])}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss: cross-entropy over all four turns of each picture (Gidaris et al. 2018, eq. 2 and 3); "accuracy"."""
        turned = four_turns(views["image"])
        answers = torch.arange(TURNS, device=turned.device).repeat(len(turned))
        logits = self.head(self.encoder(turned.flatten(0, 1))).float()
        accuracy = (logits.detach().argmax(dim=1) == answers).float().mean()
        return {"loss": functional.cross_entropy(logits, answers), "accuracy": accuracy}

    def upright(self, images: Tensor, generator: Generator) -> Tensor:
        """A square crop of each picture (B, C, S, S), mirrored and lit by chance; what was up stays up.

        Square, because a stretched crop is smoother along one side, and a network can tell which.
        """
        options, size = self.options, images.shape[-1]
        crop = Crop(scale=options.crop, ratio=(1.0, 1.0), flips=False, turns=False)
        x = random_geometry(len(images), size, generator, crop).apply(images)
        if options.mirror:
            mirrored = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
            x = torch.where(mirrored, x.flip(3), x)
        x = random_light(x, generator, options.light, options.light, options.light)
        return random_noise(x, generator, options.noise)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and the four turns of a view of it: (B, 5, C, S, S)."""
        images = to_float(batch["image"])
        turned = four_turns(self.upright(images, batch["generator"]))
        return torch.cat([images.unsqueeze(1), turned], dim=1)


def four_turns(images: Tensor) -> Tensor:
    """Square pictures (B, C, S, S) turned by 0, 90, 180 and 270 degrees anticlockwise: (B, 4, C, S, S).

    Pixels change places and nothing else, so that no interpolation gives a turn away.
    """
    return torch.stack([images.rot90(turn, (2, 3)) for turn in range(TURNS)], dim=1)


METHOD = Rotation
