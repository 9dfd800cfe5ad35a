"""The decoders: from a backbone's pyramid of maps to features at the size of the picture."""

from __future__ import annotations

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.decoder_parts import Decoder, SimplePyramid
from ssl_defect.nets.deeplab import DeepLab
from ssl_defect.nets.fcn import FCN
from ssl_defect.nets.fpn import FPN
from ssl_defect.nets.unet import UNet

__all__ = ["DECODERS", "DeepLab", "FCN", "FPN", "SimplePyramid", "UNet", "build_decoder"]

DECODERS: dict[str, type[Decoder]] = {"unet": UNet, "fcn": FCN, "fpn": FPN, "deeplabv3plus": DeepLab}


def build_decoder(name: str, encoder: Encoder, width: int) -> Decoder:
    """A decoder for the encoder's maps, with random weights from torch's global seed.

    Raises:
        UserError: no decoder has that name, or it needs more maps than the encoder gives.
    """
    there = len(encoder.channels)
    fitting = [key for key, kind in DECODERS.items() if kind.least <= there]
    if name not in fitting:
        why = f"needs {DECODERS[name].least} maps of a backbone" if name in DECODERS else "is unknown"
        raise UserError(
            f"finetune.options.decoder: '{name}' {why}, and {encoder.name} gives {there}; "
            f"take one of {', '.join(fitting)}, or another model.backbone"
        )
    return DECODERS[name](encoder.channels, encoder.reductions, width)
