"""Outlining synthetic defects: encoder and decoder learn to segment defects that were painted on good pictures.

The task that waits, learnt before there are labels: after Zavrtanik, Kristan and Skocaj (DRAEM, ICCV 2021, section
3.3), who segment noise-shaped texture pasted on good pictures, here without their reconstruction, with more kinds of
shape and look, and handed over to fine-tuning as a whole. Starting from ImageNet weights it is best run with a third
of the usual learning rate.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ssl_defect.data.defects import Look, draw_defects
from ssl_defect.nets.mask_losses import binary_focal_loss, dice_of, dice_sums
from ssl_defect.pretrain.base import Views, gather
from ssl_defect.pretrain.outlining import Outliner, OutlineSettings, overlap
from ssl_defect.pretrain.ranges import rising
from ssl_defect.train.plan import Batch


class Options(OutlineSettings):
    """Settings of outlining synthetic defects. The loss is `dice * Dice + focal * focal loss + image * image loss`."""

    kinds: tuple[Literal["blob", "crack", "spot", "patch"], ...] = Field(
        ("blob", "crack", "spot", "patch"),
        min_length=1,
        description="Shapes of defects, equally frequent; leave out what your parts cannot have.",
    )
    area: Annotated[tuple[float, float], rising(most=0.5)] = Field(
        (0.0005, 0.25),
        description="Least and greatest share of the picture that a defect covers, log-uniform. Real ones span that "
        "much: on Magnetic Tile 0.2% (blowholes) to 24% (uneven).",
    )
    difference: Annotated[tuple[float, float], rising(most=0.5)] = Field(
        (0.06, 0.5),
        description="Least and greatest change of brightness, of a range of 1, log-uniform: many real defects are "
        "faint, but what no one can see must not be asked for.",
    )
    dice: float = Field(1.0, ge=0, description="Weight of the Dice loss over the batch, as in fine-tuning.")
    focal: float = Field(20.0, ge=0, description="Weight of the focal loss, as in fine-tuning.")
    focus: float = Field(2.0, ge=0, le=10, description="Focusing exponent of the focal loss.")


class DefectSeg(Outliner):
    """Dice and focal loss on the masks of synthetic defects."""

    title: ClassVar[str] = "Synthetic defects"
    logs: ClassVar[dict[str, str]] = {
        "dice": "Dice loss on the synthetic defects, in [0, 1], 0 is perfect",
        "focal": "focal loss on the synthetic defects, at least 0",
        "iou": "intersection over union of outlined and true synthetic defects, in [0, 1], 1 is perfect",
        "image": "cross-entropy of telling good from defective pictures, at least 0",
        "image_accuracy": "share of pictures told right as good or defective, in [0, 1]",
    }

    def blemish(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pictures with synthetic defects and their masks."""
        chosen: Options = self.options
        look = Look(chosen.kinds, chosen.area, chosen.most, chosen.good, chosen.difference)
        return draw_defects(images, batch["generator"], look)

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss and its parts; Dice runs over the pictures of all processes."""
        chosen: Options = self.options
        logits, features = self.outline(views["image"])
        sums = dice_sums(logits, views["target"]).sum(dim=0, keepdim=True)
        dice = dice_of(gather(sums).sum(dim=0, keepdim=True))
        focal = binary_focal_loss(logits, views["target"], chosen.focus)
        image = self.judged(features, views["target"])
        parts = {"dice": dice, "focal": focal, "iou": overlap(logits, views["target"]), **image}
        return {"loss": chosen.dice * dice + chosen.focal * focal + chosen.image * image["image"], **parts}


METHOD = DefectSeg
