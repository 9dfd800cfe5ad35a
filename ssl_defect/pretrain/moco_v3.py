"""MoCo v3 (Chen, Xie, He: An empirical study of training self-supervised vision transformers, ICCV 2021).

No queue: each query of one view is to find the key of the other among the keys of the batch, both ways round. A
predictor stands behind the query's projection, the key encoder follows ever more slowly, and a ViT's patches are cut by
a fixed random projection: training that layer is what makes large runs unstable (section 4.2).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ssl_defect.data.augment import to_float
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.contrast import cosines, info_nce, mean_cosine, origins, others, share_found
from ssl_defect.nets.momentum import follow, follower, rising_momentum
from ssl_defect.nets.projection import mlp
from ssl_defect.pretrain.base import Facts, Method, Views, gather, spread
from ssl_defect.pretrain.views import ViewSettings, two_views
from ssl_defect.train.plan import Batch


class Options(ViewSettings):
    """Settings of MoCo v3. The views keep what tells a good part from a defective one."""

    temperature: float = Field(
        0.2, gt=0, description="Of the softmax. The paper's for ViTs; it takes 1 for a ResNet and batches of 4096."
    )
    projection: int = Field(256, ge=2, description="Width of the projected embedding, as in the paper.")
    hidden: int = Field(
        1024,
        ge=2,
        description="Width inside projector and predictor. The paper's 4096 would outweigh the small backbones that "
        "small sets call for.",
    )
    momentum: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="Of the key encoder at the start; it rises to 1 along half a cosine, as published.",
    )
    freeze_patches: bool = Field(
        True,
        description="Leave a plain ViT's patch embedding as it is, random or that of the starting weights: training it "
        "gains nothing and makes the loss jump (section 4.2). No effect on other backbones.",
    )
    groups: Literal["mask", "ignore", "positives"] = Field(
        "mask",
        description="`mask`: near-copies are never negatives; `positives`: the second view is of a near-copy where "
        "there is one, and they are masked as well; `ignore`: as published, they are negatives.",
    )


class MoCoV3(Method):
    """Each view's query is to find the other view's key among the keys of the batch."""

    title: ClassVar[str] = "MoCo v3"
    advice: ClassVar[str] = (
        "lower pretrain.learning_rate, lengthen pretrain.warmup or raise pretrain.batch_size (negatives come from it)"
    )
    logs: ClassVar[dict[str, str]] = {
        "agreement": "mean cosine of a query with its key, in [-1, 1]",
        "negative_similarity": "mean cosine of a query with other pictures' keys, in [-1, 1]; near 1: all look alike",
        "found": "share of queries whose own key is the closest of the batch, in [0, 1]",
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "one view", "another view")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.partners = options.groups == "positives"
        if encoder.is_vit and options.freeze_patches:
            encoder.body.patch_embed.requires_grad_(False)
        width, hidden, out = encoder.width, options.hidden, options.projection
        self.head = mlp([width, hidden, hidden, out], last_norm=True)
        self.predictor = mlp([out, hidden, out], last_norm=True)
        self.key_encoder, self.key_head = follower(encoder), follower(self.head)

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "pair" (B, 2, C, S, S) and "origin" (B, 2)."""
        origin = origins(batch["index"], batch["group"], self.options.groups != "ignore")
        return {"pair": two_views(batch, self.options), "origin": origin}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss (both ways round), the `logs` and "spread"."""
        images, origin = views["pair"].flatten(0, 1), views["origin"]
        query = functional.normalize(self.predictor(self.head(self.encoder(images))).float(), dim=1)
        with torch.no_grad():
            key = functional.normalize(self.key_head(self.key_encoder(images)).float(), dim=1)
        allowed = others(origin, gather(origin))
        ways = [(query[::2], key[1::2]), (query[1::2], key[::2])]
        positive = [(mine * own).sum(dim=1) for mine, own in ways]
        negatives = [cosines(mine, gather(own), allowed) for mine, own in ways]
        both, all_negatives = torch.cat(positive).detach(), torch.cat(negatives).detach()
        return {
            "loss": symmetric_info_nce(positive, negatives, self.options.temperature),
            "agreement": both.mean(),
            "negative_similarity": mean_cosine(all_negatives),
            "found": share_found(both, [all_negatives]),
            "spread": spread(query),
        }

    def after_step(self, progress: float) -> None:
        """Move the key encoder towards the query encoder, the less the further the run is."""
        momentum = rising_momentum(self.options.momentum, progress)
        follow(self.key_encoder, self.encoder, momentum)
        follow(self.key_head, self.head, momentum)

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture and two views of it: (B, 3, C, S, S)."""
        return torch.cat([to_float(batch["image"]).unsqueeze(1), two_views(batch, self.options)], dim=1)


def symmetric_info_nce(positive: list[Tensor], negatives: list[Tensor], temperature: float) -> Tensor:
    """Sum over the ways round of 2 tau times InfoNCE (Chen, Xie and He 2021, eq. 1 and algorithm 1).

    The factor keeps the size of the gradient apart from the choice of temperature.

    Args:
        positive: for each way, (B,) cosine of each query with its key.
        negatives: for each way, (B, N) cosines with the keys of other pictures; -inf leaves one out.
        temperature: divides the cosines, above 0.

    Returns:
        A scalar >= 0; two ways at chance give 4 tau log(1 + N).
    """
    ways = zip(positive, negatives, strict=True)
    return 2 * temperature * torch.stack([info_nce(own, [other], temperature) for own, other in ways]).sum()


METHOD = MoCoV3
