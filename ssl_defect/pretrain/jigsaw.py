"""Jigsaw puzzles (Noroozi, Favaro: Unsupervised learning of visual representations by solving jigsaw puzzles, ECCV
2016, arXiv:1603.09246).

Like rotation it asks how a part is laid out: parts that lie the same way teach most, an even surface teaches little.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import chain, permutations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.projection import mlp
from ssl_defect.pretrain.base import Facts, Method, Views
from ssl_defect.pretrain.tiles import as_pictures, cut, piece_size, standardise
from ssl_defect.pretrain.views import GeometrySettings, placed
from ssl_defect.train.plan import Batch


class Options(GeometrySettings):
    """Settings of jigsaw puzzles."""

    flips: bool = Field(False, description="Mirror. Off: where a tile belongs depends on which way the part lies.")
    turns: bool = Field(False, description="Quarter turns, off for the same reason.")
    grid: Literal[2, 3] = Field(3, description="Tiles along a side; 2 where the details are larger than a ninth.")
    permutations: int | None = Field(
        None,
        ge=2,
        le=1000,
        description="Orders to tell apart; left out: 64, or all 24 of four tiles. The paper's 1000 are for a million "
        "pictures; a set of hundreds shows each of them too seldom.",
    )
    gap: float = Field(0.05, ge=0, le=0.4, description="Share of a cell left free: lines must not run on across tiles.")
    jitter: float = Field(0.1, ge=0, le=0.4, description="Share of a cell by which a tile moves in it by chance.")
    grey: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Share of colour pictures shown grey: colour fringes of a lens tell how far from its middle a tile "
        "lies.",
    )
    hidden: int = Field(256, ge=8, description="Width of the layer on the features of all tiles.")

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Options:
        if self.permutations and self.permutations > math.factorial(self.grid**2):
            raise ValueError(f"permutations: four tiles have 24 orders, got {self.permutations}; take 24 or less")
        return self


class Jigsaw(Method):
    """In which of a set of orders the tiles of a picture are shown is to be told from the tiles."""

    logs: ClassVar[dict[str, str]] = {
        "accuracy": "share of orders told right, in [0, 1]; chance is 1 / permutations, where an even surface stays"
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "tiles as shown", "tiles as put back")
    orders: Tensor

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options, tiles = options, options.grid**2
        self.side = tile_side(facts.image_size, options)
        self.size = piece_size(encoder, self.side, "jigsaw")
        count = options.permutations or min(64, math.factorial(tiles))
        self.register_buffer("orders", torch.from_numpy(distant_orders(tiles, count)).long(), persistent=False)
        self.head = mlp([tiles * encoder.width, options.hidden, count])
        self.chance = math.log(count)

    @classmethod
    def check(cls, encoder: Encoder, options: Any, facts: Facts) -> None:
        """Refuse backbones that take pictures of one size only."""
        piece_size(encoder, tile_side(facts.image_size, options), "jigsaw")

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "tiles" (B, grid^2, C, t, t) as they are shown, and "answer" (B,), the number of their order."""
        generator = batch["generator"]
        images = self.greyed(placed(to_float(batch["image"]), generator, self.options), generator)
        answer = torch.randint(len(self.orders), (len(images),), generator=generator, device=images.device)
        return {"tiles": self.tiles(images, self.orders[answer], generator), "answer": answer}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss: cross-entropy over the orders; "accuracy"."""
        logits = self.answers(views["tiles"])
        accuracy = (logits.detach().argmax(dim=1) == views["answer"]).float().mean()
        return {"loss": functional.cross_entropy(logits, views["answer"]), "accuracy": accuracy}

    def answers(self, tiles: Tensor) -> Tensor:
        """Logits (B, permutations): tiles pass through the encoder one by one, none sees another (section 3.2)."""
        features = self.encoder(tiles.flatten(0, 1))
        logits: Tensor = self.head(features.view(len(tiles), -1)).float()
        return logits

    def greyed(self, images: Tensor, generator: Generator) -> Tensor:
        """Pictures (B, C, S, S), a share of the coloured ones without their colour."""
        if images.shape[1] == 1 or self.options.grey == 0:
            return images
        chosen = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < self.options.grey
        return torch.where(chosen, images.mean(dim=1, keepdim=True), images)

    def tiles(self, images: Tensor, orders: Tensor, generator: Generator) -> Tensor:
        """Tiles (B, N, C, t, t) of pictures: at place k that of cell orders[:, k] (B, N), each normalised alone."""
        grid, size = self.options.grid, images.shape[-1]
        cell = size // grid
        margin = (cell - self.side - self.room) // 2
        draw = torch.rand(2, *orders.shape, generator=generator, device=images.device)
        moved = (draw * (self.room + 1)).long() + (size - grid * cell) // 2 + margin
        top, left = moved[0] + orders // grid * cell, moved[1] + orders % grid * cell
        return as_pictures(standardise(cut(images, top, left, self.side)), self.size)

    @property
    def room(self) -> int:
        """Pixels by which a tile may move within its cell."""
        cell = self.encoder.image_size // self.options.grid
        return min(round(cell * self.options.jitter), cell - self.side)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, its tiles as they are shown and as the network puts them back: (B, 3, C, S, S)."""
        images = to_float(batch["image"])
        views = self.views(batch, 0.0)
        tiles = views["tiles"]
        order = self.orders[self.answers(tiles).argmax(dim=1)].argsort(dim=1)
        back = tiles[torch.arange(len(tiles), device=tiles.device).unsqueeze(1), order]
        return torch.stack([images, *(laid_out(x, self.options.grid, images.shape[-1]) for x in (tiles, back))], dim=1)


def tile_side(image_size: int, options: Options) -> int:
    """Pixels along a tile: its cell less what is left free and what it may move, 2 at least."""
    cell = image_size // options.grid
    return max(2, round(cell * (1 - options.gap - options.jitter)))


def laid_out(tiles: Tensor, grid: int, size: int) -> Tensor:
    """Tiles (B, grid^2, C, t, t) side by side in reading order on a grey ground: (B, C, size, size)."""
    cell = size // grid
    small = functional.interpolate(tiles.float().flatten(0, 1), size=(cell - 1, cell - 1), mode="nearest")
    framed = functional.pad(small, (0, 1, 0, 1), value=0.5).view(-1, grid, grid, tiles.shape[2], cell, cell)
    whole = framed.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    rest = size - grid * cell
    return functional.pad(whole, (0, rest, 0, rest), value=0.5)


@lru_cache(maxsize=8)
def distant_orders(tiles: int, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`count` orders (count, tiles) of `tiles` tiles, far from each other in Hamming distance; the first is untouched.

    Greedily, as in algorithm 1 of the paper, though the next order is the one whose nearest chosen order is farthest;
    of several the one farthest from all together, then the first in lexical order. So nothing is left to chance.
    """
    flat = np.fromiter(chain.from_iterable(permutations(range(tiles))), dtype=np.uint8)
    places = np.ascontiguousarray(flat.reshape(-1, tiles).T)
    nearest, total = np.full(places.shape[1], tiles + 1, dtype=np.uint8), np.zeros(places.shape[1], dtype=np.int32)
    chosen = [0]
    while len(chosen) < count:
        distance = np.zeros_like(nearest)
        for place in places:
            distance += place != place[chosen[-1]]
        np.minimum(nearest, distance, out=nearest)
        total += distance
        farthest = np.flatnonzero(nearest == nearest.max())
        chosen.append(int(farthest[total[farthest].argmax()]))
    return places[:, chosen].T


METHOD = Jigsaw
