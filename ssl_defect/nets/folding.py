"""Batch norms of a finished encoder folded into the convolutions before them: the same map in fewer passes."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ssl_defect.nets.backbones import Encoder

TOLERANCE = 1e-3  # relative, of the features; folding alone changes them by about 1e-6


@torch.no_grad()
def folded(encoder: Encoder) -> Encoder:
    """The encoder with each batch norm folded into the convolution that feeds it (Jacob et al. 2018, section 3.2).

    A copy for prediction alone: it cannot be trained further, and its weights have other names. The encoder itself
    where there is nothing to fold, or where the copy would give other features (a convolution whose output is read by
    others too).
    """
    encoder.eval()
    picture = torch.rand(1, 3, encoder.image_size, encoder.image_size, generator=torch.Generator().manual_seed(0))
    picture = picture.to(encoder.mean.device)
    copy = deepcopy(encoder)
    pairs = _pairs(copy, picture)
    if not pairs:
        return encoder
    for convolution, norm in pairs.items():
        before, behind = copy.get_submodule(convolution), copy.get_submodule(norm)
        assert isinstance(before, nn.Conv2d)
        assert isinstance(behind, _BatchNorm)
        _put(copy, convolution, fuse_conv_bn_eval(before, behind))
        # timm's batch norms bring the activation behind them along
        _put(copy, norm, getattr(behind, "act", nn.Identity()))
    return copy if _alike(encoder, copy, picture) else encoder


def _put(encoder: Encoder, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(encoder.get_submodule(parent), leaf, module)


def _pairs(encoder: Encoder, picture: Tensor) -> dict[str, str]:
    """Names of the convolutions whose output goes straight into a batch norm, and of that."""
    made: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept, so that no id is given twice
    found: dict[str, str] = {}
    handles = []
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(
                module.register_forward_hook(lambda _, __, out, name=name: made.update({id(out): (name, out)}))
            )
        elif isinstance(module, _BatchNorm) and module.running_mean is not None:
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, given, name=name: (
                        found.update({made[id(given[0])][0]: name}) if id(given[0]) in made else None
                    )
                )
            )
    try:
        encoder(picture)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _alike(one: Encoder, other: Encoder, picture: Tensor) -> bool:
    features = [*zip(one.pyramid(picture), other.pyramid(picture), strict=True), (one(picture), other(picture))]
    return all(float((a - b).abs().max()) <= TOLERANCE * float(a.abs().max()) for a, b in features)
