"""Synthetic defects on good labelled pictures, with exact masks: a detector from one drawn defect, or from none.

Two kinds. Drawn ones are those of `data.defects`, as in the pretraining `defect_seg` (after DRAEM, Zavrtanik et al.,
ICCV 2021, section 3.3). Copied ones are labelled defects of other pictures of the batch, cut out along their mask and
pasted elsewhere (Ghiasi et al., Simple Copy-Paste, CVPR 2021, arXiv:2012.07177), turned at random and brought to the
brightness of their new place, because a defect is what differs from its surroundings.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from ssl_defect.config import Settings
from ssl_defect.data.defects import Look, draw_defects


class Synthetic(Settings):
    """Settings of synthetic defects in fine-tuning."""

    share: float = Field(
        0.0, ge=0, le=1, description="Share of the good pictures of a batch that get a synthetic defect; 0 adds none."
    )
    copied: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of these that are copies of labelled defects of the batch; the others are drawn.",
    )
    kinds: tuple[Literal["blob", "crack", "spot", "patch"], ...] = Field(
        ("blob", "crack", "spot", "patch"), min_length=1, description="Shapes of drawn defects, equally frequent."
    )
    most: int = Field(3, ge=1, le=16, description="Drawn defects in a picture at most.")


@torch.no_grad()
def add_defects(images: Tensor, masks: Tensor, settings: Synthetic, draw: Generator) -> tuple[Tensor, Tensor]:
    """Pictures and masks with synthetic defects on some of the good ones; the others stay as they are.

    A picture is good where its mask is empty. Where the batch has no labelled defect to copy, all are drawn.

    Args:
        images: (B, C, S, S) in [0, 1].
        masks: (B, 1, S, S) of 0 and 1.
        draw: a generator on the images' device.

    Returns:
        New tensors of the same shapes, the masks float32.
    """
    defective = (masks.flatten(1) > 0).any(dim=1)
    chance = torch.rand(2, len(images), generator=draw, device=images.device)
    chosen = ~defective & (chance[0] < settings.share)
    copied = chosen & (chance[1] < settings.copied) & defective.any()
    images, masks = images.clone(), masks.float().clone()
    sources = defective.nonzero()[:, 0]
    for place in copied.nonzero()[:, 0].tolist():
        source = int(sources[_below(len(sources), draw)])
        _copy(images, masks, source, place, draw)
    drawn = (chosen & ~copied).nonzero()[:, 0]
    if len(drawn):
        look = Look(kinds=settings.kinds, most=settings.most, good=0.0)
        images[drawn], masks[drawn] = draw_defects(images[drawn], draw, look)
    return images, masks


def add_drawn(images: Tensor, defective: Tensor, settings: Synthetic, draw: Generator) -> tuple[Tensor, Tensor]:
    """As `add_defects` for tasks that have no masks: all of the new defects are drawn.

    Args:
        images: (B, C, S, S) in [0, 1].
        defective: (B,) bool, the pictures that stay as they are.

    Returns:
        Pictures, and masks float32 (B, 1, S, S) of the new defects alone.
    """
    flags = defective.view(-1, 1, 1, 1).expand(-1, 1, *images.shape[-2:])
    images, masks = add_defects(images, flags, settings.model_copy(update={"copied": 0.0}), draw)
    return images, masks * ~flags


def refuse_classes(settings: Synthetic, target: str) -> None:
    """Refuse synthetic defects where the task tells kinds apart.

    Raises:
        ValueError: the target is another than `binary`.
    """
    if settings.share and target != "binary":
        raise ValueError("synthetic defects are of no class; set target to binary, or synthetic.share to 0")


def _copy(images: Tensor, masks: Tensor, source: int, place: int, draw: Generator) -> None:
    """Paste the defects of picture `source` into picture `place`, anywhere, turned by a multiple of 90 degrees."""
    mask = masks[source, 0]
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    window = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    around = images[source][:, mask == 0].mean(dim=1)[:, None, None] if bool((mask == 0).any()) else 0.5
    turns, mirror = _below(4, draw), _below(2, draw)
    patch, shape = (_turned(x, turns, mirror) for x in (images[source][:, *window] - around, mask[None, *window]))
    height, width = shape.shape[-2:]
    size = images.shape[-1]
    top, left = _below(size - height + 1, draw), _below(size - width + 1, draw)
    where = (slice(top, top + height), slice(left, left + width))
    # an edge of one pixel between both, inside the mask, so that the cut itself is not what is learnt
    alpha = shape * (0.5 + 0.5 * F.avg_pool2d(shape, 3, stride=1, padding=1, count_include_pad=False))
    under = images[place][:, *where]
    images[place][:, *where] = (under + alpha * (patch + under.mean(dim=(1, 2), keepdim=True) - under)).clamp(0, 1)
    masks[place][:, *where] = shape


def _turned(x: Tensor, turns: int, mirror: int) -> Tensor:
    x = torch.rot90(x, turns, dims=(-2, -1))
    return x.flip(-1) if mirror else x


def _below(count: int, draw: Generator) -> int:
    return int(torch.randint(count, (1,), generator=draw, device=draw.device))
