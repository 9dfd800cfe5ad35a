"""Sub-batches in a random order, so that batch statistics do not tell a query which key is its own.

BatchNorm lets pictures that pass through the network together leave a trace in each other. Where a query and its
key are made among the same pictures, that trace gives the key away (He et al. 2020, section 3.3). The paper lets every
GPU normalise its own share of the batch and shuffles the pictures over the GPUs before the keys are made. Here every
process makes the queries from its share of the batch as it is, which is the fastest and leaves the encoder that is
handed on the steadiest statistics, and cuts the share at random into sub-batches for the keys. So it is the same with
one process as with several, and no picture is sent from one to another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

LEAST = 8  # pictures that a sub-batch has at least; statistics of fewer are too rough


def has_batch_norm(module: nn.Module) -> bool:
    """Whether statistics of the batch take part in what the module computes."""
    return any(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in module.modules())


def in_subbatches(network: Callable[[Tensor], Tensor], images: Tensor, draw: Tensor, number: int) -> Tensor:
    """What the network gives for images (B, ...), computed in sub-batches, in the order of the images.

    Args:
        draw: (B,) random numbers, by whose order the images are shared out.
        number: of sub-batches at most; each keeps `LEAST` images. One: the batch as it is.
    """
    number = min(number, len(images) // LEAST)
    if number < 2:
        return network(images)
    order = draw.argsort()
    made = torch.cat([network(part) for part in images[order].chunk(number)])
    return made[order.argsort()]
