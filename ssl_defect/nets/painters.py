"""Decoders of masked pretraining: from what an encoder sees of a picture to the pixels of its hidden patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.patches import patchify, sincos_positions


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
        side = images.shape[-1] // self.unit
        covered = hidden.view(-1, 1, side, side).repeat_interleave(self.unit, 2).repeat_interleave(self.unit, 3)
        x = torch.where(covered, self.hidden_value, encoder.prepare_input(images))
        last = encoder.map_of(encoder.body.forward_features(x))
        return patchify(functional.pixel_shuffle(self.leave(last), self.stride), self.unit), hidden
