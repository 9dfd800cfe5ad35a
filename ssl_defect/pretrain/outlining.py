"""What the methods share that teach encoder and decoder to outline synthetic defects on good pictures."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_defect.data.augment import random_light, random_noise, to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.heads import SegmentationHead
from ssl_defect.pretrain.base import Facts, Method, Views, spread
from ssl_defect.pretrain.views import ViewSettings, placed
from ssl_defect.train.plan import Batch

LEAST_SIDE = 32  # pixels: below, a small defect is a pixel or two


class OutlineSettings(ViewSettings):
    """Settings of an outlining method."""

    good: float = Field(
        0.2, ge=0, lt=1, description="Share of the pictures left good, so that it is learnt that most parts are."
    )
    most: int = Field(3, ge=1, le=16, description="Defects in a picture at most; real ones come in groups as well.")
    decoder_width: int = Field(
        32,
        ge=8,
        le=512,
        multiple_of=8,
        description="Channels of the decoder's finest level, as in finetune.options: segmentation starts from it "
        "where both are equal.",
    )
    image: float = Field(
        0.1,
        ge=0,
        description="Weight of telling defective pictures by the pooled features: classification and the probe read "
        "these, and outlines alone would leave them to chance.",
    )


class Outliner(Method):
    """Encoder, decoder and last convolution of a segmentation head, which are all handed over."""

    good_only: ClassVar[bool] = True
    least_batch: ClassVar[int] = 1
    strip: ClassVar[tuple[str, ...]] = ("picture", "with synthetic defects", "their outline", "as outlined")
    advice: ClassVar[str] = "lower pretrain.learning_rate to a third, or raise pretrain.options.image"

    def __init__(self, encoder: Encoder, options: Any, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        # the very modules of the segmentation task, so that their names and shapes fit
        self.head = SegmentationHead(encoder, [], {"decoder_width": options.decoder_width, "score_share": 1.0})
        self.judge = nn.Linear(encoder.width, 1)

    @classmethod
    def check(cls, encoder: Encoder, options: Any, facts: Facts) -> None:
        """Refuse pictures that are too small; every backbone fits."""
        if facts.image_size < LEAST_SIDE:
            raise UserError(
                f"data.image_size: synthetic defects need pictures of {LEAST_SIDE} pixels or more, got "
                f"{facts.image_size}; take {LEAST_SIDE}, or 128 to outline small ones"
            )

    def blemish(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pictures (B, C, S, S) in [0, 1] with defects, and what is to be predicted, (B, 1, S, S) in [0, 1]."""
        raise NotImplementedError

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "image" (B, C, S, S) in [0, 1] with defects on it, and "target" (B, 1, S, S).

        Sensor noise comes last, so that a defect without any does not give itself away.
        """
        options, generator = self.options, batch["generator"]
        images = placed(to_float(batch["image"]), generator, options)
        images = random_light(images, generator, options.brightness, options.contrast, options.gamma)
        blemished, target = self.blemish(images, batch)
        return {"image": random_noise(blemished, generator, options.noise), "target": target}

    def outline(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits per pixel (B, 1, S, S) and pooled features (B, width) of pictures (B, C, S, S) in [0, 1]."""
        maps, features = self.encoder.maps_and_features(images)
        height, width = images.shape[-2:]
        return self.head.last(self.head.decoder(maps, (height, width))), features

    def judged(self, features: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Of the pooled features (B, width): "image" (cross-entropy), "image_accuracy", and "spread"."""
        defective = target.flatten(1).amax(dim=1) >= 0.5
        logits = self.judge(features)[:, 0].float()
        loss = functional.binary_cross_entropy_with_logits(logits, defective.float())
        right = ((logits.detach() > 0) == defective).float().mean()
        return {"image": loss, "image_accuracy": right, "spread": spread(features)}

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, the same with defects, what is to be predicted of them, and the prediction: (B, 4, C, S, S)."""
        images = to_float(batch["image"])
        blemished, target = self.blemish(images, batch)
        found = self.outline(blemished)[0].float().sigmoid()
        return torch.stack([images, blemished, target.expand_as(images), found.expand_as(images)], dim=1)

    def handover(self) -> dict[str, Tensor]:
        """`decoder.*` and `last.*`, under the names that segmentation has for them."""
        return dict(self.head.state_dict())


def overlap(logits: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of the pixels outlined at 0.5 and the true ones of a batch; 1 where there are none."""
    found, true = logits.detach() > 0, target >= 0.5
    union = (found | true).sum()
    return torch.where(union > 0, (found & true).sum() / union.clamp(min=1), 1.0)
