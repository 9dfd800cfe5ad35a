"""What stands between an encoder and a head: attention on its maps, and the look at a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssl_defect.nets.attention import ATTENTION, CrossAttention
from ssl_defect.nets.backbones import Encoder


class Trunk(nn.Module):
    """Maps of the encoder: the coarsest compared with that of the reference, then each weighed by attention.

    A pair comes as (B, 2C, S, S), the reference behind the picture. Both go through the encoder as one batch. A picture
    that comes alone, (B, 1 or 3, S, S), is compared with the golden one, or is its own reference.

    Args:
        channels: of the maps.
        options: "attention" (`none`, `se`, `cbam`) and "pair" (`none`, `group`, `golden`), both `none` where missing.
        size: side of the pictures, in pixels.

    Attributes:
        golden: uint8 (1, 3, S, S), the golden picture where there is one; grey in three equal channels.
    """

    golden: Tensor | None

    def __init__(self, channels: list[int], options: Mapping[str, Any], size: int) -> None:
        super().__init__()
        kind, pair = options.get("attention", "none"), options.get("pair", "none")
        self.paired = pair != "none"
        self.register_buffer("golden", torch.zeros(1, 3, size, size, dtype=torch.uint8) if pair == "golden" else None)
        self.blocks = nn.ModuleList(ATTENTION[kind](c) for c in channels) if kind != "none" else None
        self.cross = CrossAttention(channels[-1]) if self.paired else None

    @property
    def idle(self) -> bool:
        """Whether it changes nothing."""
        return self.blocks is None and self.cross is None

    def maps(self, encoder: Encoder, x: Tensor) -> list[Tensor]:
        """Pictures or pairs -> maps as of `encoder.pyramid`."""
        return self._weighed(self._compared(encoder.pyramid(self._both(x))))

    def last_map(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Pictures or pairs -> the map as of `encoder.last_map`."""
        return self._weighed(self._compared([encoder.last_map(self._both(x))]))[0]

    def _both(self, x: Tensor) -> Tensor:
        if not self.paired:
            return x
        if x.shape[1] not in {1, 3}:
            return torch.cat(x.chunk(2, dim=1))
        if self.golden is None:
            return torch.cat([x, x])
        return torch.cat([x, (self.golden[:, : x.shape[1]].to(x) / 255).expand_as(x)])

    def _compared(self, maps: list[Tensor]) -> list[Tensor]:
        if self.cross is None:
            return maps
        count = len(maps[-1]) // 2
        deepest = self.cross(maps[-1][:count], maps[-1][count:])
        return [*(m[:count] for m in maps[:-1]), deepest]

    def _weighed(self, maps: list[Tensor]) -> list[Tensor]:
        return maps if self.blocks is None else [block(m) for block, m in zip(self.blocks, maps, strict=True)]


class Pooled(nn.Module):
    """Pooled features, with dropout: the encoder's own where the trunk is idle, else the mean over the trunk's map.

    Attributes:
        width: number of features.
    """

    def __init__(self, encoder: Encoder, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.trunk = Trunk([encoder.map_width], options, encoder.image_size)
        self.dropout = nn.Dropout(options["dropout"])
        self.width = encoder.width if self.trunk.idle else encoder.map_width

    def forward(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Pictures (B, C, S, S) in [0, 1], or pairs (B, 2C, S, S) -> (B, width)."""
        features = encoder(x) if self.trunk.idle else self.trunk.last_map(encoder, x).mean(dim=(2, 3))
        dropped: Tensor = self.dropout(features)
        return dropped
