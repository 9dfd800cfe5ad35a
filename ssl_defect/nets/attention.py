"""Attention on maps: which channels, which places, and where in a second picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_defect.nets.patches import sincos_positions

REDUCTION = 16  # of the channels in the bottleneck, in both papers
LEAST_CHANNELS = 4  # in the bottleneck: a sixteenth of a narrow map would be one or none


def squeeze_excitation(channels: int) -> nn.Module:
    """Squeeze-and-excitation, Hu et al. 2018 (arXiv:1709.01507, equations 2 to 4): `x sigmoid(W2 relu(W1 mean(x)))`.

    torchvision's, with biases as in the authors' code. Its gates begin near one half, and so do those of `CBAM`.
    """
    from torchvision.ops import SqueezeExcitation  # slow to load

    block: nn.Module = SqueezeExcitation(channels, _bottleneck(channels))
    return block


class CBAM(nn.Module):
    """Convolutional block attention, Woo et al. 2018 (arXiv:1807.06521, equations 1 to 3).

    First the channels, `sigmoid(MLP(mean) + MLP(max))` over all places; then the places,
    `sigmoid(conv7x7([mean; max]))` over all channels. As in the paper, the MLP is one for both and there is no norm.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _bottleneck(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))
        self.places = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        channels = torch.sigmoid(self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3))))
        x = x * channels[:, :, None, None]
        seen = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.places(seen))


class CrossAttention(nn.Module):
    """What a picture's map finds in that of its reference, added to it.

    `x + MHA(q = norm(x) + p, k = norm(r) + p, v = norm(r))`: multi-head attention (Vaswani et al. 2017,
    arXiv:1706.03762, section 3.2) from every place of the picture to all places of the reference, with LayerNorm before
    it. `p` are fixed sine-cosine positions: what a place is to be compared with lies in the same place, or close by.

    Args:
        channels: of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        heads = next(count for count in (8, 4, 2, 1) if channels % count == 0)
        self.norm, self.reference_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attend = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """Maps (B, C, h, h) of picture and reference -> (B, C, h, h)."""
        tokens, others = (m.flatten(2).transpose(1, 2) for m in (x, reference))
        positions = self._positions(x)
        seen = self.reference_norm(others)
        query, key = self.norm(tokens) + positions, seen + positions
        found, _ = self.attend(query, key, seen, need_weights=False)
        added: Tensor = tokens + found
        return added.transpose(1, 2).reshape(x.shape)

    @staticmethod
    def _positions(x: Tensor) -> Tensor:
        channels, side = x.shape[1], x.shape[-1]
        whole = -(-channels // 4) * 4
        return sincos_positions(side, whole)[..., :channels].to(x)


def _bottleneck(channels: int) -> int:
    return max(LEAST_CHANNELS, channels // REDUCTION)


ATTENTION = {"se": squeeze_excitation, "cbam": CBAM}
