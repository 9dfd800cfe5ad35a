"""InfoNCE, and the queue of keys that serves it with negatives.

Beside every key stands its origin, (picture, group): the number of the picture it was made of and that of its group
of near-copies, negative where it has none. So no picture is ever a negative of itself, however old its key in the
queue is, nor of a near-copy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMPTY = -1  # the picture of a slot that holds no key yet


class Queue(nn.Module):
    """The latest keys, at most `size`, first in first out.

    It starts empty: random vectors, as published, are negatives that no picture resembles, and would make up most of
    a short run's queue. The rows of a step are put in by the number of their picture, so that the queue does not
    depend on how a batch was shared out among processes.

    Attributes:
        keys: (size, D) float32.
        origins: (size, 2) int64, picture and group of each key.
        place: () int64, the slot of the next key, which is the oldest once the queue is full.
    """

    keys: Tensor
    origins: Tensor
    place: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(size, width))
        self.register_buffer("origins", torch.full((size, 2), EMPTY))
        self.register_buffer("place", torch.tensor(0))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, origins: Tensor) -> None:
        """Write keys (B, D) and their origins (B, 2) over the oldest, in place; B need not divide the size."""
        size = len(self.keys)
        order = origins[:, 0].argsort(stable=True)[-size:]
        slots = (self.place + torch.arange(len(order), device=order.device)) % size
        self.keys.index_copy_(0, slots, keys[order].to(self.keys.dtype))
        self.origins.index_copy_(0, slots, origins[order])
        self.place.add_(len(order)).remainder_(size)


def origins(pictures: Tensor, groups: Tensor, masked: bool = True) -> Tensor:
    """(B, 2): numbers of pictures (B,) beside those of their groups (B,), or -1 where groups are not `masked`."""
    return torch.stack([pictures, groups if masked else torch.full_like(groups, -1)], dim=1)


def others(mine: Tensor, theirs: Tensor) -> Tensor:
    """(B, N) which of N keys may be negatives: those of pictures that are neither the query's own nor near-copies.

    Args:
        mine: (B, 2) picture and group of each query; a negative group stands for none.
        theirs: (N, 2) the same of each key; a negative picture stands for an empty slot.
    """
    same = mine[:, None] == theirs[None, :]
    copies = same[..., 1] & (mine[:, None, 1] >= 0)
    return ~(same[..., 0] | copies) & (theirs[None, :, 0] >= 0)


def cosines(queries: Tensor, keys: Tensor, allowed: Tensor) -> Tensor:
    """(..., N) products of unit queries (..., D) with unit keys (N, D), -inf where not `allowed`; in float32."""
    with torch.autocast(queries.device.type, enabled=False):
        return (queries @ keys.T).masked_fill_(~allowed, float("-inf"))


def info_nce(positive: Tensor, negatives: list[Tensor], temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, eq. 4; He et al. 2020, eq. 1), mean over all queries.

    Args:
        positive: (...) cosine of each query with its key.
        negatives: (..., N) cosines with other keys, from any number of places; -inf leaves one out.
        temperature: divides the cosines, above 0.

    Returns:
        A scalar >= 0: log(1 + N) where all cosines are alike, 0 where there are no negatives.
    """
    logits = torch.cat([positive.unsqueeze(-1), *negatives], dim=-1).div_(temperature)
    return (logits.logsumexp(dim=-1) - logits[..., 0]).mean()


@torch.no_grad()
def mean_cosine(negatives: Tensor) -> Tensor:
    """Mean over queries of the mean of each one's negatives (B, N) that are not -inf; 0 for a query without any."""
    there = negatives.isfinite()
    return (negatives.where(there, 0.0).sum(dim=1) / there.sum(dim=1).clamp(min=1)).mean()


@torch.no_grad()
def share_found(positive: Tensor, negatives: list[Tensor]) -> Tensor:
    """Share of the queries whose own key is closer than every negative, in [0, 1]."""
    closest = torch.cat(negatives, dim=-1).amax(dim=-1)
    return (positive > closest).float().mean()
