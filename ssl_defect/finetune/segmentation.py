"""Segmentation: where is the defect, as a probability per pixel."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from ssl_defect.console import say
from ssl_defect.data.records import GOOD
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.finetune.task import Batch, Task, Validation
from ssl_defect.finetune.views import Views, show
from ssl_defect.nets.detector import Detector
from ssl_defect.nets.mask_losses import binary_focal_loss, dice_loss

BINS = 4096  # of the logits' histogram
REACH = 16.0  # logits beyond +-16 count as 16: probabilities of 1e-7


class Options(Views):
    """Settings of segmentation. The loss is `dice * Dice + focal * focal loss`."""

    dice: float = Field(1.0, ge=0, description="Weight of the Dice loss over the batch.")
    focal: float = Field(20.0, ge=0, description="Weight of the focal loss; it averages over pixels, so it is small.")
    gamma: float = Field(2.0, ge=0, le=10, description="Focusing exponent of the focal loss.")
    alpha: float | None = Field(None, gt=0, lt=1, description="Weight of defective pixels in the focal loss.")
    decoder_width: int = Field(32, ge=8, le=512, multiple_of=8, description="Channels of the decoder's finest level.")
    score_share: float = Field(
        0.0005, gt=0, le=1, description="Share of the most suspicious pixels whose mean is the image's score."
    )

    @model_validator(mode="after")
    def _something_to_minimise(self) -> Options:
        if self.dice == 0 and self.focal == 0:
            raise ValueError("dice and focal are both 0; give one of them a weight above 0")
        return self


class Segmentation(Task):
    """A U-Net on the encoder's pyramid, with Dice and focal loss."""

    def __init__(self, detector: Detector, options: Options, store: Store) -> None:
        super().__init__(detector, options, store)
        self.options = options

    @property
    def losses(self) -> dict[str, float]:
        """Weights of Dice and focal loss."""
        return {"dice": self.options.dice, "focal": self.options.focal}

    @staticmethod
    def classes(store: Store, options: Options) -> list[str]:  # type: ignore[override]
        """`good` and `defective`."""
        return [GOOD, "defective"]

    @staticmethod
    def targets(store: Store, options: Options) -> NDArray[np.int64]:  # type: ignore[override]
        """(N,) 0 for good, 1 for defective images."""
        return store.labels

    @staticmethod
    def usable(store: Store, rows: NDArray[np.int64], options: Options) -> NDArray[np.int64]:  # type: ignore[override]
        """Good images, and defective ones with a mask that is not empty; what is left out is said.

        Raises:
            UserError: no image has a mask.
        """
        masks = store.masks
        if masks is None:
            raise UserError(
                "finetune: segmentation needs masks and this set has none; set finetune.task to classification"
            )
        drawn = np.array([bool(masks[row].any()) for row in rows], dtype=bool)
        if not drawn.any():
            raise UserError(
                f"finetune: none of the {len(rows)} labelled training images has a mask with a defect in it; add some, "
                "raise finetune.labels_per_class, or set data.protocol to supervised"
            )
        kept = drawn | (store.labels[rows] == 0)
        if not kept.all():
            say(f"finetune: {(~kept).sum()} defective images without a mask are left out")
        return np.asarray(rows[kept], dtype=np.int64)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """-> "loss", "dice" and "focal", the last two unweighted."""
        draw: torch.Generator = batch["generator"]  # type: ignore[assignment]
        images, masks = show(batch["image"], batch["mask"], self.views, draw)
        assert masks is not None
        return self._losses(self.detector(images)["logits"], masks)

    def validation(self, batches: Iterable[Batch]) -> Validation:
        """Average precision of the pixels of all images.

        It looks at every threshold, so it does not jump with one of them as Dice at its best threshold does, and
        unlike the AUROC it is not flattered by the many pixels that are easily seen to be good.
        """
        counts, losses, images = np.zeros((2, BINS), dtype=np.int64), 0.0, 0
        for batch in batches:
            logits = self.detector(batch["image"].float() / 255)["logits"].float()
            losses += self._losses(logits, batch["mask"].float())["loss"].item() * len(logits)
            images += len(logits)
            counts += histogram(logits, batch["mask"])
        value, loss = average_precision(counts), losses / images
        return Validation("-loss", -loss, loss) if value is None else Validation("pixel AP", value, loss)

    def _losses(self, logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
        options = self.options
        dice, focal = dice_loss(logits, masks), binary_focal_loss(logits, masks, options.gamma, options.alpha)
        return {"loss": options.dice * dice + options.focal * focal, "dice": dice.detach(), "focal": focal.detach()}


def histogram(logits: Tensor, masks: Tensor) -> NDArray[np.int64]:
    """(2, BINS) counts of good and of defective pixels by logit, low to high: memory stays flat over any set.

    Args:
        logits: any shape.
        masks: the same shape, 0 or 1.
    """
    bins = ((logits + REACH) * (BINS / (2 * REACH))).clamp(0, BINS - 1).long()
    counts = torch.bincount((bins + BINS * masks.long()).flatten(), minlength=2 * BINS)
    return np.asarray(counts.reshape(2, BINS).cpu().numpy(), dtype=np.int64)


def average_precision(counts: NDArray[np.int64]) -> float | None:
    """Average precision `sum (R_n - R_(n-1)) P_n` over falling thresholds; None where no pixel is defective.

    Args:
        counts: (2, bins) of `histogram`.
    """
    false, true = np.cumsum(counts[:, ::-1], axis=1)
    if true[-1] == 0:
        return None
    precision = true / np.maximum(true + false, 1)
    return float(np.sum(np.diff(true, prepend=0) * precision) / true[-1])


TASK = Segmentation
