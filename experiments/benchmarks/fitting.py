"""On which backbone a method is shown: a ResNet-18 where it fits it, else a tiny ViT."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain import METHODS
from ssl_defect.pretrain.base import Facts

CNN, VIT = "resnet18", "vit_tiny_patch16_224"
TRAINED = [name for name, (module, _) in METHODS.items() if module]

_encoder = lru_cache(build_encoder)


def backbone_for(method: str, size: int, cnn: str = CNN, vit: str = VIT) -> str:
    """The backbone for a method at pictures of `size` pixels."""
    return cnn if fits(method, cnn, size) else vit


def fits(method: str, backbone: str, size: int) -> bool:
    """Whether a method takes a backbone at all."""
    module = import_module(METHODS[method][0])
    try:
        module.METHOD.check(_encoder(backbone, size), module.Options(), Facts(1, 1000, size, 64, 10, 10))
    except UserError:
        return False
    return True
