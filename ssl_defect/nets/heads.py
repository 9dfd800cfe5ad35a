"""What stands on an encoder, one head per task: outputs to train on, and scores to decide by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.decoders import UNet

PRIOR = 0.1  # probability of a defect in a pixel before training


class Head(nn.Module):
    """The interface: `forward` gives what losses take, `predict` gives what people take."""

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """Pictures (B, C, S, S) in [0, 1] -> outputs by name."""
        raise NotImplementedError

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of `forward` -> "score" (B,) float32 in [0, 1], higher is more defective, and what else there is."""
        raise NotImplementedError


class ClassificationHead(Head):
    """Dropout and a linear layer over the pooled features; class 0 is good.

    Options:
        dropout: share of the features dropped in training, in [0, 1).
    """

    def __init__(self, encoder: Encoder, classes: list[str], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.dropout = nn.Dropout(options["dropout"])
        self.linear = nn.Linear(encoder.width, len(classes))

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "logits" (B, K)."""
        return {"logits": self.linear(self.dropout(encoder(x)))}

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> "score" (B,), which is 1 - p(good), and "probabilities" (B, K)."""
        probabilities = outputs["logits"].float().softmax(dim=1)
        return {"score": probabilities[:, 1:].sum(dim=1).clamp(0, 1), "probabilities": probabilities}


class SegmentationHead(Head):
    """A U-Net decoder and one logit per pixel.

    The logits begin around a probability of 0.1, after Lin et al. 2017 (arXiv:1708.02002, section 4.1): otherwise the
    first steps go into learning that most pixels are good. Their 0.01 is for long training: Adam moves a bias by no
    more than the learning rate a step, and hundreds of steps went into climbing back.

    Options:
        decoder_width: channels of the decoder's finest level.
        score_share: share of the pixels that make the image's score, see `image_score`.
    """

    def __init__(self, encoder: Encoder, classes: list[str], options: Mapping[str, Any]) -> None:
        super().__init__()
        width: int = options["decoder_width"]
        self.share: float = options["score_share"]
        self.decoder = UNet(encoder.channels, encoder.reductions, width)
        self.last = nn.Conv2d(width, 1, 1)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "logits" (B, 1, S, S)."""
        height, width = x.shape[-2:]
        return {"logits": self.last(self.decoder(encoder.pyramid(x), (height, width)))}

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> "score" (B,) and "map" (B, S, S) in [0, 1]."""
        found = outputs["logits"][:, 0].float().sigmoid()
        return {"score": image_score(found, self.share), "map": found}


def image_score(maps: Tensor, share: float) -> Tensor:
    """Score of each image: the mean of its most suspicious pixels, `share` of all and at least one.

    The mean over all pixels would drown a small defect, and the maximum alone hangs on the noise of one pixel. With
    n pixels counted, a perfect map of a one-pixel defect scores 1/n and an empty map 0, so n is to stay small.

    Args:
        maps: (B, H, W) in [0, 1].
        share: in (0, 1].

    Returns:
        (B,) in [0, 1].
    """
    pixels = maps.flatten(1)
    count = max(1, round(share * pixels.shape[1]))
    return torch.topk(pixels, count, dim=1, sorted=False).values.mean(dim=1)


HEADS: dict[str, type[ClassificationHead] | type[SegmentationHead]] = {
    "classification": ClassificationHead,
    "segmentation": SegmentationHead,
}
