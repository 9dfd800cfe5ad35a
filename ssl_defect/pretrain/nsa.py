"""NSA (Schlueter, Tan, Hou, Kainz: Natural synthetic anomalies for self-supervised anomaly detection, ECCV 2022).

Pieces of other good pictures, resized and blended in without a seam, are to be found by how much they change the
picture. As published, but for three things: the decoder is the U-Net of the segmentation task, so that it can be
handed over; no foreground has to be known; and a pixel that did not change has the target 0.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional

from ssl_defect.data.defects import defects_per_turn
from ssl_defect.data.poisson import blend, random_patches
from ssl_defect.pretrain.base import Views
from ssl_defect.pretrain.outlining import Outliner, OutlineSettings, overlap
from ssl_defect.pretrain.ranges import rising
from ssl_defect.train.plan import Batch


class Options(OutlineSettings):
    """Settings of NSA. The loss is cross-entropy per pixel plus `image * image loss`."""

    sides: Annotated[tuple[float, float], rising(most=0.6)] = Field(
        (0.06, 0.4), description="Least and greatest side of a piece as a share of the picture's; small ones are most."
    )
    resize: Annotated[tuple[float, float], rising(least=0.25, most=4)] = Field(
        (0.7, 1.3), description="Least and greatest factor by which a piece is resized, as published."
    )
    mixed: float = Field(
        0.5, ge=0, le=1, description="Share of pieces that keep the picture's own gradients where these are steeper."
    )
    middle: float = Field(
        24 / 255, gt=0, description="Change of brightness, of a range of 1, that is called half a defect; as published."
    )
    slope: float = Field(12 / 255, gt=0, description="Change by which the logistic target grows by a factor of e.")


class NSA(Outliner):
    """Cross-entropy between the outlined and the true change of every pixel."""

    logs: ClassVar[dict[str, str]] = {
        "pixels": "cross-entropy per pixel, at least 0; targets between 0 and 1 keep it above 0",
        "error": "mean distance of prediction and target where a picture was changed, in [0, 1], 0 is perfect",
        "iou": "intersection over union of outlined and clearly changed pixels, in [0, 1], 1 is perfect",
        "image": "cross-entropy of telling good from changed pictures, at least 0",
        "image_accuracy": "share of pictures told right as good or changed, in [0, 1]",
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "with blended pieces", "how much they change", "as predicted")

    def blemish(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pictures with pieces of others, never of near-copies where the batch has anything else, and the targets."""
        chosen: Options = self.options
        generator = batch["generator"]
        other = other_parts(batch["group"], generator)
        order = torch.rand(len(images), generator=generator, device=generator.device).argsort()
        clean, source = images[order], images[other[order]]
        result, covered = clean.clone(), torch.zeros_like(clean[:, :1], dtype=torch.bool)
        for number in defects_per_turn(len(images), chosen.most, chosen.good):
            patches = random_patches(number, images.shape[-1], generator, chosen.sides, chosen.resize)
            mixed = torch.rand(number, generator=generator, device=generator.device) < chosen.mixed
            result[:number], inside = blend(result[:number], source[:number], patches, mixed)
            covered[:number] |= inside
        target = change_target(clean, result, chosen.middle, chosen.slope) * covered
        back = order.argsort()
        return result[back], target[back]

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss and its parts."""
        target = views["target"]
        logits, features = self.outline(views["image"])
        logits = logits.float()
        pixels = functional.binary_cross_entropy_with_logits(logits, target)
        changed = target > 0
        error = ((logits.detach().sigmoid() - target).abs() * changed).sum() / changed.sum().clamp(min=1)
        image = self.judged(features, target)
        loss = pixels + self.options.image * image["image"]
        return {"loss": loss, "pixels": pixels, "error": error, "iou": overlap(logits, target), **image}


def change_target(before: Tensor, after: Tensor, middle: float, slope: float) -> Tensor:
    """How much of a defect each pixel is: a logistic function of its change (Schlueter et al. 2022, section 3.2).

    Moved and stretched to be 0 where nothing changed: 0.5 comes a little after `middle`. The change is the mean over
    channels and over 3x3 pixels (the published one is a median), so that grain does not punch holes in it.

    Args:
        before, after: (B, C, S, S) in [0, 1].
        middle, slope: in brightness, of a range of 1.

    Returns:
        (B, 1, S, S) in [0, 1].
    """
    change = (after - before).abs().mean(dim=1, keepdim=True)
    change = functional.avg_pool2d(change, 3, 1, 1, count_include_pad=False)
    lowest = 1 / (1 + torch.tensor(middle / slope).exp().item())
    return ((change - middle) / slope).sigmoid_().sub_(lowest).div_(1 - lowest).clamp_(0, 1)


def other_parts(groups: Tensor, generator: Generator) -> Tensor:
    """For each picture of a batch the number of another one, not of its group where there is any: (B,).

    Args:
        groups: (B,) near-copies share a number; negative: no group.
    """
    count = len(groups)
    draw = torch.rand(count, count, generator=generator, device=generator.device)
    copies = (groups[:, None] == groups[None, :]) & (groups >= 0)[:, None]
    itself = torch.eye(count, dtype=torch.bool, device=draw.device)
    return (draw - copies.float() - 2 * itself.float()).argmax(dim=1)


METHOD = NSA
