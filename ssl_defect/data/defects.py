"""Synthetic defects on good pictures, batched and on the device: what to outline when no defect was ever labelled.

A defect is a shape and a look, drawn apart from each other. Shapes are distances to an outline in pixels, so that an
edge can be hard or soft; looks are another brightness, a flat tone, another grain, or a piece of another picture. All
defects of a batch that share a kind of shape are drawn at once, and every number comes from one generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

KINDS = ("blob", "crack", "spot", "patch")
SMALLEST = 4.0  # pixels of area that every shape has at least
KNOTS = 16  # corners of a crack; even, so that one of them is its middle
CELLS = 16  # cells of the lattice of noise, per axis


@dataclass(frozen=True)
class Look:
    """What `draw_defects` may draw.

    Attributes:
        kinds: of shapes, names of `KINDS`.
        area: least and greatest area of a blob or patch as a share of the picture, drawn log-uniformly; a spot keeps
            to the lower half of that range on a log scale, and a crack has its own, thin as it is.
        most: defects in a picture at most; from 1 to that are equally likely.
        good: share of the pictures that are left as they are.
        difference: least and greatest change of brightness, of a range of 1; at most 0.5, so that there is always
            room for it on one side.
    """

    kinds: tuple[str, ...] = KINDS
    area: tuple[float, float] = (0.0005, 0.25)
    most: int = 3
    good: float = 0.2
    difference: tuple[float, float] = (0.06, 0.5)


class Draw:
    """Random numbers of `count` defects at a time, (count, 1, 1) each."""

    def __init__(self, generator: Generator, count: int) -> None:
        self.generator, self.count = generator, count

    def of(self, *shape: int) -> Tensor:
        """Uniform numbers (count, *shape) in [0, 1)."""
        return torch.rand(self.count, *shape, generator=self.generator, device=self.generator.device)

    def between(self, low: float, high: float) -> Tensor:
        """Uniform numbers in [low, high)."""
        return low + self.of(1, 1) * (high - low)

    def log_between(self, low: float, high: float) -> Tensor:
        """Log-uniform numbers in [low, high)."""
        return self.between(math.log(low), math.log(high)).exp()

    def chance(self, share: float) -> Tensor:
        """True with that probability."""
        return self.of(1, 1) < share


@torch.no_grad()
def draw_defects(images: Tensor, generator: Generator, look: Look = Look()) -> tuple[Tensor, Tensor]:
    """Pictures with synthetic defects, and masks of these.

    What lies outside of all soft edges stays as it was, bit for bit. A mask begins where a soft edge has come half
    way. Any defect shows: the pixels of its mask change by a quarter of the least `difference` on average, or more.

    Args:
        images: (B, C, S, S) in [0, 1], of good parts; S at least 16.

    Returns:
        Pictures (B, C, S, S) in [0, 1], and masks (B, 1, S, S) float32 of 0 and 1.
    """
    with torch.autocast(images.device.type, enabled=False):
        count = len(images)
        order = torch.rand(count, generator=generator, device=generator.device).argsort()
        clean = images.float()[order]
        result, masks = clean.clone(), torch.zeros_like(clean[:, :1])
        counts = defects_per_turn(count, look.most, look.good)
        shapes = draw_shapes(sum(counts), images.shape[-1], generator, look)
        alphas = torch.split(soften(shapes, generator).unsqueeze(1), counts)
        others = clean.roll(1, 0).flip(2, 3)
        for number, alpha in zip(counts, alphas, strict=True):  # the first `number` pictures get one defect more
            result[:number] = paint(result[:number], others[:number], alpha, generator, look)
            masks[:number] = torch.maximum(masks[:number], (alpha >= 0.5).float())
        back = order.argsort()
        return result[back], masks[back]


def draw_shapes(count: int, size: int, generator: Generator, look: Look = Look()) -> Tensor:
    """Shapes of `count` defects as the distance to their outline, inside positive, in pixels: (count, size, size).

    The kinds are equally frequent and in random order. The middle of each is a pixel of the picture and lies inside,
    so that none is empty.
    """
    order = torch.rand(count, generator=generator, device=generator.device).argsort()
    ends = [round(count * number / len(look.kinds)) for number in range(len(look.kinds) + 1)]
    parts = []
    for kind, start, end in zip(look.kinds, ends, ends[1:], strict=False):
        draw = Draw(generator, end - start)
        centre = (draw.of(2, 1, 1) * size).floor() + 0.5
        parts.append(_SHAPES[kind](draw, centre, size, look))
    return torch.cat(parts)[order]


def soften(shapes: Tensor, generator: Generator) -> Tensor:
    """Opacity in [0, 1] of shapes (N, S, S), 0.5 on the outline.

    Half of the edges are hard (one pixel wide), the others up to twice as wide as the shape is thick, but no more
    than a tenth of the picture.
    """
    draw = Draw(generator, len(shapes))
    thickness = shapes.amax(dim=(1, 2), keepdim=True)
    widest = (2 * thickness).clamp(max=shapes.shape[-1] / 10)
    wide = widest.clamp(min=1) ** draw.of(1, 1)
    width = torch.where(draw.chance(0.5), wide, 1.0).minimum(2 * thickness)
    return (shapes / width).add_(0.5).clamp_(0, 1)


def paint(images: Tensor, others: Tensor, alpha: Tensor, generator: Generator, look: Look = Look()) -> Tensor:
    """Pictures with one defect each, of a random look.

    Args:
        images: (N, C, S, S) in [0, 1].
        others: (N, C, S, S) pictures that a foreign piece is taken from.
        alpha: (N, 1, S, S) opacity of the defect.
    """
    draw = Draw(generator, len(images))
    mean = _weighted_mean(images, alpha)
    amount = draw.log_between(*look.difference).unsqueeze(1)
    room = torch.where(mean.mean(dim=1, keepdim=True) > 0.5, -1.0, 1.0)
    sign = torch.where(draw.chance(0.5).unsqueeze(1), -room, room)
    overshoots = (mean.mean(dim=1, keepdim=True) + sign * amount - 0.5).abs() > 0.5
    tint = 1 - 0.5 * draw.of(images.shape[1], 1, 1)
    shift = torch.where(overshoots, room, sign) * amount * tint
    kind = draw.of(1, 1, 1)
    flat, foreign, grainy = kind < 0.25, (kind >= 0.25) & (kind < 0.5), (kind >= 0.5) & (kind < 0.7)
    change = (others * foreign).addcmul_(images, (flat | foreign).float(), value=-1)
    change += mean * flat + torch.where(foreign | grainy, 0.3, 1.0) * shift
    change += torch.where(grainy, amount, 0.0) * _grain(draw, images.shape[-1]).unsqueeze(1)
    changed = torch.addcmul(images, alpha, change).clamp_(0, 1)
    seen = _weighted_mean(torch.sub(changed, images, out=change).abs_(), (alpha >= 0.5).float()).mean(dim=1).flatten()
    faint = seen < look.difference[0] / 2
    changed[faint] = (images[faint] + alpha[faint] * room[faint] * look.difference[0]).clamp_(0, 1)
    return changed


def defects_per_turn(count: int, most: int, good: float) -> list[int]:
    """How many of `count` pictures get a first defect, a second, ... up to `most`; a share `good` gets none."""
    defective = count - round(count * good)
    return [number for turn in range(most) if (number := round(defective * (most - turn) / most))]


def _weighted_mean(images: Tensor, weights: Tensor) -> Tensor:
    """Mean (N, C, 1, 1) of pictures (N, C, S, S) under weights (N, 1, S, S)."""
    totals = images.flatten(2) @ weights.flatten(2).transpose(1, 2)
    return (totals / weights.sum(dim=(2, 3))[:, :, None]).unsqueeze(3)


def _grain(draw: Draw, size: int) -> Tensor:
    """Noise (count, size, size) in [-1, 1] whose grains are 1 to 8 pixels wide."""
    cells = max(2, size // 2)
    noise = draw.of(cells, cells) * 2 - 1
    start, grain = draw.of(2, 1) * cells, draw.log_between(1.0, 8.0).squeeze(2)
    across = torch.arange(size, device=noise.device)
    rows, columns = (((start[:, axis] + across / grain) % cells).long() for axis in (0, 1))
    picked = noise.gather(1, rows.unsqueeze(2).expand(-1, -1, cells))
    return picked.gather(2, columns.unsqueeze(1).expand(-1, size, -1))


def _turned(draw: Draw, centre: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Coordinates (count, size, size) in pixels along and across an axis through `centre` (count, 2, 1, 1)."""
    angle = draw.between(0, math.pi)
    across = torch.arange(size, device=centre.device) + 0.5
    y, x = across.view(1, -1, 1) - centre[:, 0], across.view(1, 1, -1) - centre[:, 1]
    cosine, sine = angle.cos(), angle.sin()
    return cosine * x + sine * y, cosine * y - sine * x


def _area(draw: Draw, size: int, low: float, high: float) -> Tensor:
    return (draw.log_between(low, high) * size**2).clamp_(min=SMALLEST)


def _ellipse(draw: Draw, centre: Tensor, size: int, area: Tensor, longest: float) -> tuple[Tensor, Tensor]:
    """Distance from the centre over the radius (1 on the outline), and the shorter radius in pixels."""
    ratio = draw.log_between(1.0, longest)
    short, long = (area / (math.pi * ratio)).sqrt(), (area * ratio / math.pi).sqrt()
    along, across = _turned(draw, centre, size)
    return torch.hypot(along / long, across / short), short


def _spot(draw: Draw, centre: Tensor, size: int, look: Look) -> Tensor:
    """A small ellipse: a pore, a grain of dust, a stain."""
    low, high = look.area
    radius, short = _ellipse(draw, centre, size, _area(draw, size, low, math.sqrt(low * high)), 2.0)
    return (1 - radius) * short


def _blob(draw: Draw, centre: Tensor, size: int, look: Look) -> Tensor:
    """An ellipse whose outline noise has moved by up to 0.8 of its radius: wear, a spill, a broken edge."""
    radius, short = _ellipse(draw, centre, size, _area(draw, size, *look.area), 3.0)
    noise, cell = draw.of(CELLS, CELLS) * 2 - 1, short * draw.between(0.3, 0.8)
    across = torch.arange(size, device=noise.device) + 0.5
    places = ((across - centre[:, :, 0]) / cell + CELLS / 2).clamp_(0.5, CELLS - 0.5)
    middles = torch.arange(CELLS, device=noise.device) + 0.5
    rows, columns = (1 - (places.unsqueeze(3) - middles).abs()).clamp_(min=0).unbind(1)
    return (1 + draw.between(0.2, 0.8) * (rows @ noise @ columns.transpose(1, 2)) - radius) * short


def _patch(draw: Draw, centre: Tensor, size: int, look: Look) -> Tensor:
    """A rectangle at any angle."""
    area, ratio = _area(draw, size, *look.area), draw.log_between(1.0, 6.0)
    along, across = _turned(draw, centre, size)
    return torch.minimum((area * ratio).sqrt() / 2 - along.abs(), (area / ratio).sqrt() / 2 - across.abs())


def _crack(draw: Draw, centre: Tensor, size: int, look: Look) -> Tensor:
    """A broken line, a tenth to nine tenths of the picture long, one pixel to 3% of the picture wide, thin at its ends.

    Its corners are a random walk across the axis; the distance is that to the line through the two nearest ones.
    """
    length, half = draw.log_between(0.1, 0.9) * size, draw.log_between(0.6, max(0.8, 0.015 * size))
    along, across = _turned(draw, centre, size)
    slopes = ((draw.of(KNOTS) * 2 - 1) * draw.between(0.2, 1.2).squeeze(2)).unsqueeze(2)
    heights = torch.cat([torch.zeros_like(slopes[:, :1]), slopes.cumsum(dim=1)], dim=1)
    heights = (heights - heights[:, KNOTS // 2, None]) * (length / KNOTS)
    place = ((along / length + 0.5) * KNOTS).clamp_(0, KNOTS - 1e-3)
    knot = place.long().flatten(1)
    slope, height = (values.squeeze(2).gather(1, knot).view_as(place) for values in (slopes, heights))
    line = height + (place - place.floor()) * slope * (length / KNOTS)
    thin = half * (1 - 0.7 * (2 * along / length).square().clamp_(max=1))
    return torch.minimum(thin - (across - line).abs() / (1 + slope.square()).sqrt(), length / 2 - along.abs())


_SHAPES = {"blob": _blob, "crack": _crack, "spot": _spot, "patch": _patch}
