"""Decoders of masked pretraining: from what an encoder sees of a picture to the pixels of its hidden patches."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.patches import cover, patchify, sincos_positions, unpatchify

CELL = 4  # side in pixels of what the last layer of a `HolePainter` paints at once


class Painter(nn.Module):
    """Predicts the patches of pictures of which all but the last `hidden` in a given order are seen."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, encoder: Encoder, images: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted patches (B, N, P), and which of them were hidden: bool (B, N).

        Args:
            encoder: it belongs to the method, so it is handed in.
            images: (B, C, S, S) in [0, 1].
            order: (B, N) a random order of the patches; the last `hidden` of them are not seen.
        """
        raise NotImplementedError

    def hidden_patches(self, order: Tensor) -> Tensor:
        """(B, N) bool: which patches are hidden."""
        hidden = torch.zeros_like(order, dtype=torch.bool)
        return hidden.scatter_(1, order[:, order.shape[1] - self.hidden :], True)


class TokenPainter(Painter):
    """For a plain ViT that sees visible patches alone (He et al. 2022, section 3).

    One learned token stands for every hidden patch; positions are added and a few light blocks fill them in.
    """

    positions: Tensor

    def __init__(self, encoder: Encoder, hidden: int, channels: int, width: int, depth: int) -> None:
        """Make the layers.

        Args:
            hidden: number of hidden patches.
            channels: of the pixels to predict.
            width, depth: of the decoder; its heads are 16 wide.
        """
        super().__init__(hidden)
        patch = encoder.reductions[-1]
        self.enter = nn.Linear(encoder.map_width, width)
        self.hidden_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        positions = sincos_positions(encoder.image_size // patch, width)
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, width // 16, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, patch**2 * channels))

    def forward(self, encoder: Encoder, images: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted patches (B, N, P) and which were hidden (B, N)."""
        visible = order.shape[1] - self.hidden
        tokens = self.enter(encoder.visible_tokens(images, order[:, :visible]))
        prefix = tokens.shape[1] - visible
        rest = self.hidden_token.to(tokens.dtype).expand(len(tokens), self.hidden, -1)
        places = order.argsort(dim=1).unsqueeze(2).expand(-1, -1, tokens.shape[2])
        patches = torch.cat([tokens[:, prefix:], rest], dim=1).gather(1, places) + self.positions
        x = torch.cat([tokens[:, :prefix], patches], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.leave(x[:, prefix:]), self.hidden_patches(order)


class MapPainter(Painter):
    """For any backbone with a pyramid: hidden patches are replaced in the input by a learned value.

    One linear layer leads from the last map to the pixels under each of its cells (SimMIM, Xie et al. 2022).
    """

    def __init__(self, encoder: Encoder, hidden: int, channels: int, unit: int) -> None:
        """Make the layers.

        Args:
            hidden: number of hidden patches.
            channels: of the pixels to predict.
            unit: side of a patch, in pixels.
        """
        super().__init__(hidden)
        self.unit, self.stride = unit, encoder.reductions[-1]
        self.hidden_value = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.leave = nn.Conv2d(encoder.map_width, self.stride**2 * channels, 1)

    def forward(self, encoder: Encoder, images: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted patches (B, N, P) and which were hidden (B, N)."""
        hidden = self.hidden_patches(order)
        last = masked_map(encoder, images, cover(hidden, self.unit), self.hidden_value)
        return patchify(functional.pixel_shuffle(self.leave(last), self.stride), self.unit), hidden


class LinearPainter(Painter):
    """For a plain ViT that sees all patches, a learned token in the place of the hidden ones (Xie et al. 2022).

    One linear layer leads from each patch's token to its pixels (section 3.3).
    """

    def __init__(self, encoder: Encoder, hidden: int, channels: int, unit: int) -> None:
        """Make the layers.

        Args:
            hidden: number of hidden patches.
            channels: of the pixels to predict.
            unit: side of what is hidden as one, in pixels; a multiple of the ViT's own patch.
        """
        super().__init__(hidden)
        self.unit, self.patch = unit, encoder.reductions[-1]
        self.hidden_token = nn.Parameter(torch.randn(1, 1, encoder.map_width) * 0.02)
        self.leave = nn.Linear(encoder.map_width, self.patch**2 * channels)

    def forward(self, encoder: Encoder, images: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted patches (B, N, P) and which were hidden (B, N)."""
        hidden = self.hidden_patches(order)
        tokens = encoder.masked_tokens(images, cover(hidden, self.unit // self.patch).flatten(1), self.hidden_token)
        return patchify(unpatchify(self.leave(tokens), self.patch), self.unit), hidden


class HolePainter(nn.Module):
    """A light convolutional decoder from an encoder's last map to the picture (Pathak et al. 2016, section 3.1).

    Each level doubles the map by repeating its cells and mixes them by a 3x3 convolution (which leaves no
    checkerboard, as transposed convolutions do) to half the width. The last one paints 4 x 4 pixels per cell: finer
    levels would cost a third of a ResNet-18's step.
    """

    def __init__(self, encoder: Encoder, channels: int, width: int) -> None:
        """Make the layers.

        Args:
            channels: of the picture.
            width: of the coarsest level, a multiple of 8; no level is narrower than 32.
        """
        super().__init__()
        levels = max(1, round(math.log2(encoder.reductions[-1] / CELL)))
        widths = [max(width >> level, 32) for level in range(levels + 1)]
        self.enter = nn.Conv2d(encoder.map_width, widths[0], 1)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.GroupNorm(8, b), nn.ReLU(inplace=True))
            for a, b in pairwise(widths)
        )
        self.leave = nn.Sequential(nn.Conv2d(widths[-1], CELL**2 * channels, 3, padding=1), nn.PixelShuffle(CELL))

    def forward(self, last: Tensor, size: int) -> Tensor:
        """Maps (B, map_width, h, w) -> pictures (B, channels, size, size)."""
        x = self.enter(last)
        for number, level in enumerate(self.levels, 1):
            final = number == len(self.levels)  # a stride that is no power of two is made up for in the last step
            side = -(-size // CELL) if final else 2 * x.shape[-1]
            x = level(functional.interpolate(x, size=(side, side)))
        painted: Tensor = self.leave(x)[:, :, :size, :size]
        return painted


def masked_map(encoder: Encoder, images: Tensor, covered: Tensor, value: Tensor) -> Tensor:
    """The encoder's last map (B, map_width, h, w) of pictures with `value` in the place of some pixels.

    Args:
        images: (B, C, S, S) in [0, 1].
        covered: (B, 1, S, S) bool, the pixels that are not seen.
        value: (1, 3, 1, 1), in the encoder's normalised units.
    """
    x = torch.where(covered, value, encoder.prepare_input(images))
    return encoder.map_of(encoder.body.forward_features(x))
