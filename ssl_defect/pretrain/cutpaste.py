"""CutPaste (Li, Sohn, Yoon, Pfister: CutPaste, self-supervised learning for anomaly detection, CVPR 2021).

A piece of a picture is cut out and pasted elsewhere on it, and the network tells such pictures from untouched ones.
The paper's sizes of scars are for 256-pixel pictures and are scaled with the picture here.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional

from ssl_defect.data.augment import random_light, random_noise, to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.projection import mlp
from ssl_defect.pretrain.base import Facts, Method, Views, spread
from ssl_defect.pretrain.ranges import Shares, rising
from ssl_defect.pretrain.views import ViewSettings, placed
from ssl_defect.train.plan import Batch

PIECES = {
    "normal": ("rectangle",),
    "scar": ("scar",),
    "3way": ("rectangle", "scar"),
    "cutout": ("cutout",),
    "random_scar": ("random_scar",),
}  # variant -> what is pasted on each view after the untouched one
WIDTH, LENGTH, TURN = (2 / 256, 16 / 256), (10 / 256, 25 / 256), math.pi / 4  # of a scar, section 2.2
RATIO = 3.3  # greatest side by side of a rectangle, section 2.2
HIDDEN = 512  # width of the head's hidden layer


class Options(ViewSettings):
    """Settings of CutPaste. Light and crops are those of other methods: they are never the difference to be told."""

    crop: Shares = Field(
        (0.8, 1.0), description="Share of the area kept: small shifts, as in the paper; a part stays whole."
    )
    flips: bool = Field(False, description="Mirror. Off, as in the paper: where parts lie alike, that is knowledge.")
    turns: bool = Field(False, description="Quarter turns, for the same reason.")
    brightness: float = Field(0.1, ge=0, description="Log-range of a factor, the paper's jitter of whole pictures.")
    contrast: float = Field(0.1, ge=0, description="Log-range of a factor about the mean, likewise.")
    gamma: float = Field(0.0, ge=0, description="Log-range of the exponent; the paper has none.")
    noise: float = Field(0.0, ge=0, description="Greatest standard deviation of sensor noise; the paper has none.")
    variant: Literal["normal", "scar", "3way", "cutout", "random_scar"] = Field(
        "3way",
        description="`normal`: a rectangle, `scar`: a thin turned one, `3way`: both, to be told apart as well, best in "
        "the paper; `cutout` (grey) and `random_scar` (one colour) are its rows to compare with.",
    )
    area: Annotated[tuple[float, float], rising(most=1 / RATIO)] = Field(
        (0.02, 0.15), description="Share of the picture that a rectangle covers."
    )
    jitter: float = Field(
        0.1, ge=0, lt=1, description="Greatest change of the piece's brightness, contrast and saturation."
    )
    head: int = Field(128, ge=2, description="Width of the last hidden layer of the head.")


class CutPaste(Method):
    """Untouched, or with what pasted on it: cross-entropy over a view of each kind of every picture."""

    good_only: ClassVar[bool] = True
    logs: ClassVar[dict[str, str]] = {
        "accuracy": "share of views whose kind (untouched, pasted on) is told right, in [0, 1]; chance is 1/2 or 1/3"
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "pasted on", "pasted on, once more")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.pieces = PIECES[options.variant]
        widths = [encoder.width, HIDDEN, options.head]
        self.head = nn.Sequential(mlp(widths), nn.ReLU(), nn.Linear(options.head, 1 + len(self.pieces)))
        self.chance = math.log(1 + len(self.pieces))

    @classmethod
    def check(cls, encoder: Encoder, options: Options, facts: Facts) -> None:
        """Refuse pictures on which a scar would be thinner than a pixel."""
        if facts.image_size < 32:
            raise UserError(f"data.image_size: cutpaste needs pictures of 32 pixels or more, got {facts.image_size}")

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "views" (B, K, C, S, S): each picture untouched, then with each of the variant's pieces."""
        options, generator = self.options, batch["generator"]
        images = placed(to_float(batch["image"]), generator, options)
        images = random_light(images, generator, options.brightness, options.contrast, options.gamma)
        views = [images] + [self.pasted(images, generator, piece) for piece in self.pieces]
        return {"views": random_noise(torch.stack(views, dim=1), generator, options.noise)}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss: cross-entropy over the kinds (Li et al. 2021, eq. 1), "accuracy", and "spread" of the features."""
        count, kinds = views["views"].shape[:2]
        features = self.encoder(views["views"].flatten(0, 1))
        logits = self.head(features).float()
        target = torch.arange(kinds, device=logits.device).repeat(count)
        accuracy = (logits.detach().argmax(dim=1) == target).float().mean()
        return {"loss": functional.cross_entropy(logits, target), "accuracy": accuracy, "spread": spread(features)}

    def pasted(self, images: Tensor, generator: Generator, piece: str) -> Tensor:
        """Pictures (B, C, S, S) with one piece each."""
        draw_box = random_rectangle if piece in ("rectangle", "cutout") else random_scar
        box = draw_box(len(images), images.shape[-1], generator, self.options.area)
        if piece == "cutout":
            return fill(images, box, torch.full_like(images[:, :, :1, :1], 0.5))
        if piece == "random_scar":
            colour = torch.rand(*images.shape[:2], 1, 1, generator=generator, device=generator.device)
            return fill(images, box, colour)
        return paste(images, box, generator, self.options.jitter)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and two of it with pieces, in turn where there are two kinds: (B, 3, C, S, S)."""
        images, generator = to_float(batch["image"]), batch["generator"]
        pasted = [self.pasted(images, generator, self.pieces[i % len(self.pieces)]) for i in range(2)]
        return torch.stack([images, *pasted], dim=1)


def random_rectangle(count: int, size: int, generator: Generator, area: tuple[float, float]) -> Tensor:
    """Upright rectangles within pictures of `size` pixels: (count, 7), see `offsets`.

    The share of the picture is uniform in `area`, the ratio of the sides in [0.3, 1] or [1, 3.3], either as likely
    (section 2.2). Sides and places are whole pixels, so that what is cut out is pasted as it was.
    """
    draw = torch.rand(count, 7, generator=generator, device=generator.device).unbind(1)
    ratio = 1 + draw[1] * (RATIO - 1)
    ratio = torch.where(draw[2] < 0.5, ratio, 1 / ratio)
    share = area[0] + draw[0] * (area[1] - area[0])
    sides = torch.stack([(share * ratio).sqrt(), (share / ratio).sqrt()], dim=1)
    sides = (sides * size).round().clamp(1, size)
    corners = (torch.stack(draw[3:], dim=1) * (size - sides.repeat(1, 2) + 1)).floor()
    centres = corners + sides.repeat(1, 2) / 2
    return torch.cat([centres, sides, torch.zeros_like(sides[:, :1])], dim=1)


def random_scar(count: int, size: int, generator: Generator, area: tuple[float, float] = (0, 0)) -> Tensor:
    """Thin rectangles, turned by up to 45 degrees either way, within pictures of `size` pixels: (count, 7).

    2 to 16 pixels wide and 10 to 25 long on 256 pixels (section 2.2), at least 1 pixel and 3 pixels; `area` is unused.
    """
    draw = torch.rand(count, 7, generator=generator, device=generator.device)
    low, high = (torch.tensor(ends, device=draw.device) for ends in zip(LENGTH, WIDTH, strict=True))
    sides = ((low + draw[:, :2] * (high - low)) * size).maximum(torch.tensor([3.0, 1.0], device=draw.device))
    turn = (draw[:, 2:3] * 2 - 1) * TURN
    reach = sides.square().sum(dim=1, keepdim=True).sqrt() / 2 + 1
    centres = reach + draw[:, 3:] * (size - 2 * reach)
    centres = (centres - 0.5).round() + 0.5  # the middle is a pixel: the thinnest scar covers some
    return torch.cat([centres, sides, turn], dim=1)


def offsets(box: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the pixels of pictures lie as seen from the middle of a box, and which are covered.

    Args:
        box: (B, 7) middle of the target (row, column), middle of the source (row, column), length along the box's
            own first axis and width along its second, in pixels, and its turn in radians.

    Returns:
        Offsets in rows and columns before the turn, and a mask of the covered pixels, each (B, size, size).
    """
    across = torch.arange(size, device=box.device) + 0.5
    y = across.view(1, -1, 1) - box[:, 0].view(-1, 1, 1)
    x = across.view(1, 1, -1) - box[:, 1].view(-1, 1, 1)
    sine, cosine = (function(box[:, 6]).view(-1, 1, 1) for function in (torch.sin, torch.cos))
    down, right = cosine * y - sine * x, sine * y + cosine * x
    half = box[:, 4:6].view(-1, 2, 1, 1) / 2
    return down, right, (down.abs() < half[:, 0]) & (right.abs() < half[:, 1])


def fill(images: Tensor, box: Tensor, colour: Tensor) -> Tensor:
    """Pictures (B, C, S, S) with boxes (B, 7) in one colour (B, C, 1, 1); all other pixels stay bit for bit."""
    return torch.where(offsets(box, images.shape[-1])[2].unsqueeze(1), colour, images)


def paste(images: Tensor, box: Tensor, generator: Generator, jitter: float) -> Tensor:
    """Pictures (B, C, S, S) with a piece of their own, upright at the source, pasted turned at the target of `box`.

    Pixels are taken from the nearest one, since interpolation would give the piece away by its smoothness; all
    others stay bit for bit. The piece's brightness, contrast and saturation change by factors in 1 +- `jitter`.
    """
    count, channels, size, _ = images.shape
    down, right, covered = offsets(box, size)
    rows = (down + box[:, 2].view(-1, 1, 1)).floor().long().clamp_(0, size - 1)
    columns = (right + box[:, 3].view(-1, 1, 1)).floor().long().clamp_(0, size - 1)
    source = (rows * size + columns).view(count, 1, -1).expand(-1, channels, -1)
    piece = images.flatten(2).gather(2, source).view_as(images)
    factors = 1 + (torch.rand(3, count, 1, 1, 1, generator=generator, device=generator.device) * 2 - 1) * jitter
    return torch.where(covered.unsqueeze(1), recolour(piece, covered.unsqueeze(1), *factors), images)


def recolour(images: Tensor, covered: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Pictures (B, C, S, S) with other light and colour: factors (B, 1, 1, 1), contrast about the mean of `covered`."""
    mean = (images * covered).sum(dim=(1, 2, 3), keepdim=True) / (covered.sum(dim=(1, 2, 3), keepdim=True))
    mean = mean / images.shape[1]
    if images.shape[1] == 3:
        grey = images.mean(dim=1, keepdim=True)
        images = grey + (images - grey) * saturation
    return ((images - mean) * contrast + mean).mul_(brightness).clamp_(0, 1)


METHOD = CutPaste
