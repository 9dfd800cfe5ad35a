"""Draw machined parts and their defects: functions of a random generator alone, with exact masks.

A part is a cast surface, brushed, with holes and a milled edge at random places, so that no two parts look alike
even as thumbnails. A defect is drawn as its mask first and then shaded along it. A capture is a shifted window of
the part under its own light, exposure and noise: two captures of one part are near-copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Surface = npt.NDArray[np.float32]  # (H, W) in about [0, 1]
Mask = npt.NDArray[np.bool_]

TRIES = 40  # places that are tried for a defect
MARGIN = 1.16  # the drawn surface is wider than a picture, so that captures can shift


def draw_part(rng: np.random.Generator, side: int) -> tuple[Surface, Mask]:
    """Surface of a part, (side, side), and where it is solid: casting texture, brushing, a milled edge and holes."""
    surface = np.full((side, side), rng.uniform(0.42, 0.6), np.float32)
    for cell, strength in ((3, 0.030), (7, 0.045), (18, 0.05)):
        surface += strength * _smooth_noise(rng, side, max(2.0, side * cell / 160))
    surface += 0.036 * _brushing(rng, side)
    _mill(rng, surface)
    solid = np.ones((side, side), np.bool_)
    for _ in range(rng.integers(1, 4)):
        solid &= _drill(rng, surface)
    return surface, solid


def draw_defect(rng: np.random.Generator, surface: Surface, solid: Mask, kind: str, window: tuple[int, int]) -> Mask:
    """Draw one defect of `kind` into `surface` (changed in place) and return its exact mask, never empty.

    Args:
        solid: where there is material; holes take no defect.
        window: first pixel, and the one after the last, of what every capture shows, on both axes; the defect lies
            wholly in it unless that fails time and again, and then it is cut there.
    """
    inner = np.zeros_like(solid)
    inner[window[0] : window[1], window[0] : window[1]] = True
    for attempt in range(TRIES):
        whole, shade = DEFECTS[kind](rng, len(surface), window)
        mask = whole & solid & inner
        if mask.sum() >= 0.6 * whole.sum() and (attempt >= TRIES // 2 or not (whole & ~inner).any()):
            break
    assert mask.any(), "no place for a defect"
    surface += np.where(mask, shade, 0).astype(np.float32)
    return mask


def capture(rng: np.random.Generator, surface: Surface, mask: Mask, side: int, wander: float = 1.0) -> tuple[Any, Any]:
    """Photograph a part: uint8 (side, side) picture and mask (0 or 255) of a window that shifts by up to `wander`."""
    room = len(surface) - side
    x, y = (round(room / 2 + wander * rng.uniform(-room / 2, room / 2)) for _ in range(2))
    view = surface[y : y + side, x : x + side]
    light = _gradient(rng, side, 0.16)
    picture = np.clip(view * light * rng.uniform(0.8, 1.2), 0, 1) ** rng.uniform(0.85, 1.15)
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.5)
    noisy = picture + rng.normal(0, 0.012, picture.shape)
    levels = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    return levels, mask[y : y + side, x : x + side].astype(np.uint8) * 255


def _smooth_noise(rng: np.random.Generator, side: int, cell: float) -> Surface:
    """Noise with blotches of about `cell` pixels, standard deviation 1."""
    small = max(3, round(side / cell) + 2)
    coarse = rng.normal(size=(small, small)).astype(np.float32)
    noise = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-6), dtype=np.float32)


def _brushing(rng: np.random.Generator, side: int) -> Surface:
    """Fine parallel lines at a random angle."""
    wide = int(side * 1.5)
    lines = rng.normal(size=(wide, wide)).astype(np.float32)
    lines = cv2.blur(lines, (max(3, side // 5), 1))
    turn = cv2.getRotationMatrix2D((wide / 2, wide / 2), float(rng.uniform(0, 180)), 1.0)
    turned = cv2.warpAffine(lines, turn, (wide, wide), borderMode=cv2.BORDER_REFLECT)
    start = (wide - side) // 2
    cut = turned[start : start + side, start : start + side]
    return np.asarray(cut / (cut.std() + 1e-6), dtype=np.float32)


def _gradient(rng: np.random.Generator, side: int, strength: float) -> Surface:
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    return np.asarray(1 + strength * (np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]), np.float32)


def _drill(rng: np.random.Generator, surface: Surface) -> Mask:
    """A dark hole with a bright chamfer on the side of the light; returns what it leaves solid."""
    side = len(surface)
    x, y = rng.uniform(0.1, 0.9, 2) * side
    radius = rng.uniform(0.045, 0.1) * side
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    distance = np.hypot(columns - x, rows - y)
    inside = np.clip(radius - distance + 0.5, 0, 1)
    rim = np.clip(1 - np.abs(distance - radius) / (0.018 * side + 1), 0, 1)
    tilt = ((columns - x) + (rows - y)) / (distance + 1)
    surface += (0.12 - surface) * inside + 0.14 * rim * tilt
    return np.asarray(distance > radius + 1)


def _mill(rng: np.random.Generator, surface: Surface) -> None:
    """A step across the part: one side lower and darker, its edge catching light."""
    side = len(surface)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.42) * side
    rows, columns = np.mgrid[:side, :side].astype(np.float32) - side / 2
    distance = columns * np.cos(angle) + rows * np.sin(angle) - offset
    surface -= 0.13 * np.clip(distance + 0.5, 0, 1)
    surface += 0.2 * np.clip(1 - np.abs(distance) / (0.008 * side + 0.8), 0, 1)


def _point(rng: np.random.Generator, window: tuple[int, int]) -> npt.NDArray[np.float64]:
    low, high = window
    inset = (high - low) * 0.12
    return rng.uniform(low + inset, high - inset, 2)


def _stroke(side: int, points: npt.NDArray[np.float64], width: int) -> Mask:
    canvas = np.zeros((side, side), np.uint8)
    cv2.polylines(canvas, [np.rint(points * 16).astype(np.int32)], False, 1, width, cv2.LINE_8, 4)
    return canvas > 0


def _scratch(rng: np.random.Generator, side: int, window: tuple[int, int]) -> tuple[Mask, Surface]:
    """A thin, slightly bent bright line with a dark lip."""
    start, angle = _point(rng, window), rng.uniform(0, 2 * np.pi)
    along = np.linspace(0, rng.uniform(0.25, 0.55) * side, 24)
    bend = rng.uniform(-0.5, 0.5) / side
    x, y = along, bend * along**2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = start + np.stack([x, y], axis=1) @ turn
    width = max(1, round(side / 90))
    bright, lip = _stroke(side, points, width), _stroke(side, points + width, width)
    shade = np.where(bright, rng.uniform(0.2, 0.34), -rng.uniform(0.1, 0.2))
    return bright | lip, shade.astype(np.float32)


def _crack(rng: np.random.Generator, side: int, window: tuple[int, int]) -> tuple[Mask, Surface]:
    """A dark line that wanders, with a branch or two."""
    mask = np.zeros((side, side), np.bool_)
    starts = [(_point(rng, window), rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.55))]
    for branch in range(rng.integers(2, 4)):
        point, angle, length = starts[0] if branch == 0 else starts[rng.integers(1, len(starts))]
        step = max(2.0, side / 40)
        points = [point]
        for _ in range(int(length * side / step)):
            angle += rng.normal(0, 0.38)
            points.append(points[-1] + step * np.array([np.cos(angle), np.sin(angle)]))
            starts.append((points[-1], angle + rng.choice([-0.9, 0.9]), length * 0.45))
        mask |= _stroke(side, np.array(points), max(1, round(side / (100 if branch else 75))))
    return mask, np.full((side, side), -rng.uniform(0.2, 0.32), np.float32)


def _blob(rng: np.random.Generator, side: int, center: npt.NDArray[np.float64], radius: float, rough: float) -> Surface:
    """Distance to the outline of a rough disc, positive inside, in pixels."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    outline = radius * (1 + rough * _smooth_noise(rng, side, max(2.0, radius * 0.8)))
    stretch = rng.uniform(0.75, 1.3)
    return np.asarray(
        outline - np.hypot((columns - center[0]) * stretch, (rows - center[1]) / stretch), dtype=np.float32
    )


def _spot(rng: np.random.Generator, side: int, window: tuple[int, int]) -> tuple[Mask, Surface]:
    """One to four dark pits with a bright far wall."""
    mask, shade = np.zeros((side, side), np.bool_), np.zeros((side, side), np.float32)
    for _ in range(rng.integers(1, 5)):
        depth = _blob(rng, side, _point(rng, window), rng.uniform(0.014, 0.034) * side + 1, 0.12)
        pit = depth > 0
        wall = np.roll(depth, (-1, -1), (0, 1)) - depth
        shade = np.where(pit, -0.26 + 0.07 * np.clip(wall, -1, 1), shade).astype(np.float32)
        mask |= pit
    return mask, shade


def _stain(rng: np.random.Generator, side: int, window: tuple[int, int]) -> tuple[Mask, Surface]:
    """A wide, faint, ragged patch with a darker rim, as oil or water leaves it."""
    depth = _blob(rng, side, _point(rng, window), rng.uniform(0.09, 0.17) * side, 0.2)
    sign = rng.choice([-1.0, -1.0, 1.0])
    rim = np.clip(1 - np.abs(depth) / (0.02 * side), 0, 1)
    shade = sign * (rng.uniform(0.1, 0.15) + 0.08 * rim)
    return depth > 0, shade.astype(np.float32)


DEFECTS: dict[str, Callable[[np.random.Generator, int, tuple[int, int]], tuple[Mask, Surface]]] = {
    "crack": _crack,
    "scratch": _scratch,
    "spot": _spot,
    "stain": _stain,
}
