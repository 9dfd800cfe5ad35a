"""What stands on an encoder, one head per task: outputs to train on, and scores to decide by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssl_defect.nets.anomaly.build import anomaly_head
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.decoders import build_decoder
from ssl_defect.nets.detection.build import detection_head, instance_head
from ssl_defect.nets.trunk import Pooled, Trunk

PRIOR = 0.1  # probability of a defect in a pixel before training
SEPARATOR = "+"  # between the labels of an image that has several: `crack+scratch`
SMALLEST_AREA = 1e-3  # share of the picture below which the logarithmic scale of areas turns linear


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
        target: `binary` and `defect` have one probability over all classes, `labels` one for each but good.
        dropout: share of the features dropped in training, in [0, 1).
        attention, pair: see `Trunk`.
    """

    def __init__(self, encoder: Encoder, classes: list[str], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.several = options.get("target") == "labels"
        self.pooled = Pooled(encoder, options)
        self.linear = nn.Linear(self.pooled.width, len(classes) - int(self.several))

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "logits" (B, K), each against that of good, which is 0 where an image may have several labels."""
        logits = self.linear(self.pooled(encoder, x))
        if self.several:
            logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
        return {"logits": logits}

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> "score" (B,), and "probabilities" (B, K), or "labels" (B, K - 1) where an image may have several.

        The score is 1 - p(good). With labels it is that of the likeliest: `1 - prod(1 - p)` would take them for
        independent, and grow with their number on a good part.
        """
        logits = outputs["logits"].float()
        if self.several:
            labels = logits[:, 1:].sigmoid()
            return {"score": labels.amax(dim=1), "labels": labels}
        probabilities = logits.softmax(dim=1)
        return {"score": probabilities[:, 1:].sum(dim=1).clamp(0, 1), "probabilities": probabilities}


class RegressionHead(Head):
    """Dropout and a linear layer with one output over the pooled features.

    Options:
        target: `grade` or `area`; with `scale` it says what the output means, see `to_scale`.
        dropout: share of the features dropped in training, in [0, 1).
        attention, pair: see `Trunk`.
    """

    def __init__(self, encoder: Encoder, classes: list[str], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.logarithmic = options.get("target") == "area" and options.get("scale") == "log"
        self.pooled = Pooled(encoder, options)
        self.linear = nn.Linear(self.pooled.width, 1)

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "value" (B,), the output as it is learnt, and "logits" (B, 2): 0 for good, and it for defective."""
        found = self.linear(self.pooled(encoder, x))
        return {"value": found[:, 0], "logits": torch.cat([torch.zeros_like(found), found], dim=1)}

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> "score" (B,), the output kept in [0, 1], and "value" (B,), the grade or area in [0, 1] that it means."""
        score = outputs["value"].float().clamp(0, 1)
        return {"score": score, "value": from_scale(score) if self.logarithmic else score.clone()}


def to_scale(area: Tensor) -> Tensor:
    """Areas in [0, 1] on a logarithmic scale in [0, 1]: `log(1 + a / s) / log(1 + 1 / s)` with `s = 0.001`.

    Areas of defects span powers of ten; on it a tenth of the area lies about a third lower.
    """
    return torch.log1p(area / SMALLEST_AREA) / math.log1p(1 / SMALLEST_AREA)


def from_scale(value: Tensor) -> Tensor:
    """The inverse of `to_scale`."""
    return torch.expm1(value * math.log1p(1 / SMALLEST_AREA)) * SMALLEST_AREA


class SegmentationHead(Head):
    """A decoder and one logit per pixel, or one per pixel and class.

    The logits begin around a probability of 0.1, after Lin et al. 2017 (arXiv:1708.02002, section 4.1): otherwise the
    first steps go into learning that most pixels are good. Their 0.01 is for long training: Adam moves a bias by no
    more than the learning rate a step, and hundreds of steps went into climbing back.

    Options:
        target: `binary`, or `defect` for a class per pixel; class 0 is good.
        decoder: a name of `DECODERS`.
        decoder_width: channels of the decoder's finest level.
        score_share: share of the pixels that make the image's score, see `image_score`.
        deep_supervision: above 0, the decoder's coarser levels have logits of their own in training.
        attention, pair: see `Trunk`.
    """

    def __init__(self, encoder: Encoder, classes: list[str], options: Mapping[str, Any]) -> None:
        super().__init__()
        width: int = options["decoder_width"]
        self.share: float = options["score_share"]
        count = len(classes) if options.get("target") == "defect" else 1
        self.decoder = build_decoder(options.get("decoder", "unet"), encoder, width)
        self.last = _logits(width, count)
        deep = self.decoder.coarse if options.get("deep_supervision", 0) > 0 else []
        self.auxiliary = nn.ModuleList(_logits(channels, count) for channels in deep)
        self.trunk = Trunk(encoder.channels, options, encoder.image_size)

    def forward(self, encoder: Encoder, x: Tensor) -> dict[str, Tensor]:
        """-> "logits" (B, 1, S, S) or (B, K, S, S); in deeply supervised training also "level0", ... (B, ., h, w)."""
        height, width = x.shape[-2:]
        features, *levels = self.decoder.stages(self.trunk.maps(encoder, x), (height, width))
        outputs = {"logits": self.last(features)}
        if self.training:
            for number, (layer, level) in enumerate(zip(self.auxiliary, levels, strict=False)):
                outputs[f"level{number}"] = layer(level)
        return outputs

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> "score" (B,) and "map" (B, S, S) in [0, 1]; of classes also "class_map" uint8 (B, S, S).

        The class map holds the likeliest defect of every pixel; whether there is one, the map tells at its threshold.
        """
        logits = outputs["logits"].float()
        if logits.shape[1] == 1:
            found = logits[:, 0].sigmoid()
            return {"score": image_score(found, self.share), "map": found}
        found = logits.softmax(dim=1)[:, 1:].sum(dim=1).clamp(0, 1)
        classes = (1 + logits[:, 1:].argmax(dim=1)).to(torch.uint8)
        return {"score": image_score(found, self.share), "map": found, "class_map": classes}


def _logits(channels: int, count: int) -> nn.Conv2d:
    """A 1x1 convolution whose outputs begin near the logits of `PRIOR`: of one defect, or shared by count - 1."""
    layer = nn.Conv2d(channels, count, 1)
    assert layer.bias is not None
    if count == 1:
        nn.init.constant_(layer.bias, math.log(PRIOR / (1 - PRIOR)))
    else:
        nn.init.constant_(layer.bias, math.log(PRIOR / (count - 1)))
        nn.init.constant_(layer.bias[:1], math.log(1 - PRIOR))
    return layer


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


HEADS: dict[str, Callable[[Encoder, list[str], Mapping[str, Any]], Head]] = {
    "anomaly": anomaly_head,
    "classification": ClassificationHead,
    "detection": detection_head,
    "instance": instance_head,
    "regression": RegressionHead,
    "segmentation": SegmentationHead,
}
