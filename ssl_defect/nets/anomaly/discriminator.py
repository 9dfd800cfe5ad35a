"""What tells good features of patches from others: a small perceptron, applied to every patch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_defect.nets.anomaly.patches import patch_features
from ssl_defect.nets.anomaly.scaling import Scaling
from ssl_defect.nets.backbones import Encoder

SLOPE = 0.2  # of the leaky ReLU, as in SimpleNet


class PatchDiscriminator(nn.Module):
    """Scaled features of patches, a linear adaptor, and a perceptron with one output: high is anomalous.

    As in Liu et al. 2023 (arXiv:2303.15197, sections 3.2 and 3.4) and Chen et al. 2024 (arXiv:2407.09359): the adaptor
    keeps the width and has no bias, the perceptron has one hidden layer with BatchNorm and a leaky ReLU.

    Args:
        width: of the features.
        hidden: width of the hidden layer.
        levels: maps of the encoder.
    """

    def __init__(self, width: int, hidden: int, levels: list[int]) -> None:
        super().__init__()
        self.levels = levels
        self.scaling = Scaling(width)
        self.adaptor = nn.Linear(width, width, bias=False)
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, 1, bias=False)
        )
        for layer in (self.adaptor, self.layers[0], self.layers[3]):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_normal_(layer.weight)

    def adapted(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Pictures (B, C, S, S) in [0, 1] -> adapted features (B, P, width), float32; no gradient to the encoder."""
        with torch.no_grad():
            features = self.scaling(patch_features(encoder, x, self.levels)).flatten(2).transpose(1, 2)
        adapted: Tensor = self.adaptor(features)
        return adapted.float()

    def judge(self, features: Tensor) -> Tensor:
        """Adapted features (N, width) -> (N,) float32, any real number."""
        judged: Tensor = self.layers(features)
        return judged[:, 0].float()

    def distances(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "distances" (B, h, w), `softplus` of what is judged (above 0, the order kept), and the largest of each."""
        features = self.adapted(encoder, x)
        count, patches, _ = features.shape
        side = round(patches**0.5)
        found = F.softplus(self.judge(features.flatten(0, 1))).view(count, side, side)
        return {"distance": found.flatten(1).amax(dim=1), "distances": found}


def gaussian(features: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Normal noise of the features' shape, independent in every element."""
    return deviation * torch.randn(features.shape, generator=generator, device=generator.device)
