"""Features of patches: maps of an encoder at two strides, each cell with its surroundings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder


def levels_of(encoder: Encoder, strides: Sequence[int]) -> list[int]:
    """Which maps of `encoder.pyramid` have these strides; of a plain ViT, whose maps share one, the middle two.

    Raises:
        UserError: there is no map of such a stride.
    """
    if encoder.is_vit:
        return [1, 2]
    missing = [stride for stride in strides if stride not in encoder.reductions]
    if missing:
        raise UserError(
            f"anomaly.options.strides: {encoder.name} has no map of stride {missing[0]}; accepted: "
            f"{', '.join(map(str, encoder.reductions))}"
        )
    return [encoder.reductions.index(stride) for stride in strides]


def patch_width(encoder: Encoder, levels: Sequence[int]) -> int:
    """Channels of `patch_features`."""
    return sum(encoder.channels[level] for level in levels)


def patch_side(encoder: Encoder, levels: Sequence[int]) -> int:
    """Cells along a side of `patch_features`: those of the finest level."""
    finest: int = min(encoder.reductions[level] for level in levels)
    return -(-encoder.image_size // finest)


def patch_features(encoder: Encoder, x: Tensor, levels: Sequence[int]) -> Tensor:
    """Locally aware features, Roth et al. 2022 (arXiv:2106.08265, section 3.1).

    Each map is averaged over 3 x 3 cells, see `around`, enlarged to the finest and joined.

    Args:
        x: pictures (B, C, S, S) in [0, 1].

    Returns:
        float32 (B, D, h, w).
    """
    maps = encoder.maps(x, levels)
    near = [around(m.float()) for m in maps]
    size = max((m.shape[-2:] for m in near), key=lambda shape: shape[0])
    return torch.cat([F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in near], dim=1)


def around(maps: Tensor) -> Tensor:
    """Mean of the 3 x 3 cells about each (B, C, h, w); at the border of the 3 x 3 that still lie within the map.

    Always nine cells: a mean of fewer varies more and lies farther from the memory, so that the largest distance of a
    good picture would nearly always be at its border; zeros in place of those outside would hide defects there.
    """
    if min(maps.shape[-2:]) < 3:
        return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
    return F.pad(F.avg_pool2d(maps, 3, stride=1), (1, 1, 1, 1), mode="replicate")


def check_finite(features: Tensor) -> None:
    """Refuse features from which nothing can be learnt.

    Raises:
        UserError: one is not a finite number.
    """
    if not bool(torch.isfinite(features).all()):
        raise UserError(
            "anomaly: the encoder gives features that are no finite numbers for good images; accepted: finite weights; "
            "pretrain again with a lower learning rate, or take pretrain.method: imagenet"
        )
