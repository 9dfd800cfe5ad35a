"""The small networks that stand on an encoder while it is pretrained, and are thrown away afterwards."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def mlp(widths: list[int], last_norm: bool = False, norm: bool = True) -> nn.Sequential:
    """Linear layers from widths[0] to widths[-1], each but the last followed by BatchNorm and ReLU.

    Args:
        last_norm: a BatchNorm without scale and shift after the last layer (Chen, Xie and He 2021, section 4.3).
        norm: BatchNorm between the layers; without it the layers have biases instead.
    """
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        last = number == len(widths) - 2
        layers.append(nn.Linear(inputs, outputs, bias=(last and not last_norm) or not norm))
        if not last:
            layers += [nn.BatchNorm1d(outputs)] if norm else []
            layers.append(nn.ReLU(inplace=True))
        elif last_norm:
            layers.append(nn.BatchNorm1d(outputs, affine=False))
    return nn.Sequential(*layers)
