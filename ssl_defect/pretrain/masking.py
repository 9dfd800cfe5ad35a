"""What masked methods share: the side of what is hidden as one, the sizes that fit, and the picture put together."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.patches import patchify, unpatchify
from ssl_defect.pretrain.base import refuse

PLAIN = "plain ViTs (vit_*, deit_*)"
PYRAMIDS = "ResNet, EfficientNet, ConvNeXt, MobileNet, RegNet, Swin and other backbones with a pyramid"


def base_unit(encoder: Encoder) -> int:
    """Side of a hidden patch in pixels where a backbone cuts none of its own: 32, or 16 below 192-pixel pictures.

    SimMIM's 32 is for 192 pixels. On smaller pictures it would leave a grid too coarse to hide a random share of,
    and a defect is small: a patch much wider than it cannot be told from what is around.
    """
    return 32 if encoder.image_size >= 192 else 16


def check_backbone(method: str, encoder: Encoder) -> None:
    """Refuse what is neither a plain ViT nor a pyramid.

    Raises:
        UserError: naming what fits.
    """
    if not encoder.is_vit and len(set(encoder.reductions)) == 1:
        raise refuse(method, encoder, f"{PLAIN}, {PYRAMIDS}")


def check_sizes(method: str, encoder: Encoder, unit: int) -> None:
    """Refuse pictures that patches of `unit` pixels or the backbone's stride do not divide.

    Raises:
        UserError: naming a size that fits.
    """
    own, size = encoder.reductions[-1], encoder.image_size
    for name, side in (("the patch", unit), (f"the stride of {encoder.name}", own)):
        if size % side or size < 2 * unit:
            larger = max((size // side + 1) * side, 2 * unit)
            raise UserError(
                f"data.image_size: {method} needs a multiple of {name} ({side} pixels), two patches wide at least, "
                f"got {size}; take {larger}"
            )


def rebuild(images: Tensor, predicted: Tensor, hidden: Tensor, unit: int) -> Tensor:
    """Pictures (B, C, S, S) with the predicted patches (B, N, P) where they were `hidden` (B, N), in [0, 1]."""
    patches = torch.where(hidden.unsqueeze(2), predicted.float(), patchify(images, unit))
    return unpatchify(patches, unit).clamp(0, 1)


def strip_of(images: Tensor, rebuilt: Tensor, covered: Tensor) -> Tensor:
    """Each picture, what is left visible of it (the rest grey), and the whole as rebuilt: (B, 3, C, S, S)."""
    return torch.stack([images, images.masked_fill(covered, 0.5), rebuilt], dim=1)
