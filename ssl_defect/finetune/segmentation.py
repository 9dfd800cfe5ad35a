"""Segmentation: where is the defect, and of which class, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.console import say
from ssl_defect.data.records import GOOD
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.finetune.distillation import softened
from ssl_defect.finetune.losses import LossSettings, check_losses, weighted_sum
from ssl_defect.finetune.pairs import PairTask, TrunkOptions, keep_golden, pictures
from ssl_defect.finetune.pixel_ap import BINS, average_precision, histogram
from ssl_defect.finetune.synthetic import Synthetic, add_defects, refuse_classes
from ssl_defect.finetune.task import Batch, Validation, class_numbers, used
from ssl_defect.finetune.views import show
from ssl_defect.nets.detector import Detector
from ssl_defect.nets.losses import IGNORED
from ssl_defect.nets.mask_losses import CLASS_MASK_LOSSES, MASK_LOSSES


class Options(TrunkOptions):
    """Settings of segmentation."""

    target: Literal["binary", "defect"] = Field(
        "binary",
        description="`binary`: defective or not; `defect`: which of the set's defect classes, where a mask is of the "
        "class of its image.",
    )
    losses: dict[str, float] = Field(
        default_factory=lambda: {"dice": 1.0, "focal": 20.0},
        description="Weight of each loss in the sum: dice, focal, tversky, jaccard, lovasz and bce, or cross_entropy "
        "of classes. The focal loss averages over pixels, so it is small.",
    )
    gamma: float = Field(2.0, ge=0, le=10, description="Focusing exponent of the focal loss.")
    alpha: float | None = Field(
        None, gt=0, lt=1, description="Weight of defective pixels in the focal loss; of no effect on classes."
    )
    tversky_alpha: float = Field(0.3, ge=0, le=1, description="Weight of falsely found pixels in the Tversky loss.")
    tversky_beta: float = Field(0.7, ge=0, le=1, description="Weight of missed pixels in the Tversky loss.")
    tversky_exponent: float = Field(1.0, gt=0, le=5, description="Exponent of the Tversky loss; 0.75 is focal Tversky.")
    decoder: Literal["unet", "fcn", "fpn", "deeplabv3plus"] = Field(
        "unet", description="What makes a picture of the encoder's maps; pretraining hands over a `unet`."
    )
    decoder_width: int = Field(32, ge=8, le=512, multiple_of=8, description="Channels of the decoder's finest level.")
    deep_supervision: float = Field(
        0.0, ge=0, le=10, description="Weight of the same losses on the decoder's coarser levels; 0 adds none."
    )
    self_distillation: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Weight of the distance of the coarser levels from the final map, which is their teacher; needs "
        "`deep_supervision`.",
    )
    synthetic: Synthetic = Field(
        default_factory=Synthetic, description="Synthetic defects on good pictures, with exact masks; binary only."
    )
    score_share: float = Field(
        0.0005, gt=0, le=1, description="Share of the most suspicious pixels whose mean is the image's score."
    )

    @model_validator(mode="after")
    def _losses_fit(self) -> Options:
        check_losses(self.losses, self.table, "finetune.options.losses")
        if self.self_distillation and not self.deep_supervision:
            raise ValueError("self_distillation needs deep_supervision above 0, which makes the levels that it teaches")
        refuse_classes(self.synthetic, self.target)
        return self

    @property
    def table(self) -> Any:
        """The losses that fit the target."""
        return CLASS_MASK_LOSSES if self.target == "defect" else MASK_LOSSES


class Segmentation(PairTask):
    """A decoder on the encoder's pyramid, with a weighted sum of losses."""

    def __init__(self, detector: Detector, options: Options, store: Store) -> None:
        super().__init__(detector, options, store)
        self.options = options
        val = store.rows("val")
        drawn = store.masks is not None and any(bool(store.masks[row].any()) for row in val)
        self.blind = options.synthetic.share > 0 and not drawn
        keep_golden(detector, store)

    @property
    def losses(self) -> dict[str, float]:
        """Weight of each loss, of their mean over the coarser levels as "deep", and of these levels' as "self"."""
        options = self.options
        return used({**options.losses, "deep": options.deep_supervision, "self": options.self_distillation})

    @staticmethod
    def classes(store: Store, options: Options) -> list[str]:  # type: ignore[override]
        """`good` and `defective`, or `good` and the set's defect classes."""
        return store.classes if options.target == "defect" else [GOOD, "defective"]

    @staticmethod
    def targets(store: Store, options: Options) -> NDArray[np.int64]:  # type: ignore[override]
        """(N,) 0 for good images, for others 1 or the number of their class."""
        return class_numbers(store) if options.target == "defect" else store.labels

    @staticmethod
    def strata(store: Store, options: Options) -> NDArray[np.int64]:  # type: ignore[override]
        """(N,) as `targets`."""
        return Segmentation.targets(store, options)

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
        if not drawn.any() and options.synthetic.share and (store.labels[rows] == 0).any():
            say("finetune: no labelled defect: the detector learns from synthetic ones alone")
        elif not drawn.any():
            raise UserError(
                f"finetune: none of the {len(rows)} labelled training images has a mask with a defect in it; add some, "
                "raise finetune.labels_per_class, or train with synthetic ones by finetune.options.synthetic.share"
            )
        kept = drawn | (store.labels[rows] == 0)
        if not kept.all():
            say(f"finetune: {(~kept).sum()} defective images without a mask are left out")
        if options.target == "defect":
            missing = sorted(set(store.classes[1:]) - {store.defects[row] for row in rows[drawn]})
            if missing:
                say(f"finetune: no labelled training image has a mask of {', '.join(missing)}: it cannot be learnt")
        return np.asarray(rows[kept], dtype=np.int64)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """-> "loss", by name each loss unweighted, "deep", the sum's mean over the coarser levels, and "self"."""
        draw: torch.Generator = batch["generator"]  # type: ignore[assignment]
        images, masks = show(pictures(batch), batch["mask"], self.views, draw)
        assert masks is not None
        if self.options.synthetic.share:
            images, masks = blemished(images, batch["image"].shape[1], masks, self.options.synthetic, draw)
        outputs, target = self.detector(images), self._target(batch, masks)
        logs = self._losses(outputs["logits"], target)
        levels = [value for name, value in outputs.items() if name.startswith("level")]
        if levels:
            parts = [self._losses(level, shrink(target, level.shape[-2:]))["loss"] for level in levels]
            deep = torch.stack(parts).mean()
            logs |= {"loss": logs["loss"] + self.options.deep_supervision * deep, "deep": deep.detach()}
        if self.options.self_distillation:
            own = torch.stack([softened(level, smaller(outputs["logits"], level), 1.0) for level in levels]).mean()
            logs |= {"loss": logs["loss"] + self.options.self_distillation * own, "self": own.detach()}
        return self.taught(logs, images, outputs)

    def validation(self, batches: Iterable[Batch]) -> Validation:
        """Average precision of the pixels of all images; of classes the mean over the defects with a mask.

        It looks at every threshold, so it does not jump with one of them as Dice at its best threshold does, or as
        IoU of the likeliest class, and unlike the AUROC it is not flattered by the many pixels that are easily seen
        to be good. Without a labelled defect to look at, synthetic ones on the good images stand for them, always
        the same.
        """
        classes = len(self.detector.spec.classes) - 1
        counts, losses, seen = np.zeros((classes, 2, BINS), dtype=np.int64), 0.0, 0
        draw = torch.Generator(next(self.detector.parameters()).device).manual_seed(0)
        for batch in batches:
            images, masks = pictures(batch).float() / 255, batch["mask"].float()
            if self.blind:
                half = self.options.synthetic.model_copy(update={"share": 0.5})
                images, masks = blemished(images, batch["image"].shape[1], masks, half, draw)
            logits = self.detector(images)["logits"].float()
            target = self._target(batch, masks)
            losses += self._losses(logits, target)["loss"].item() * len(logits)
            seen += len(logits)
            counts += self._histograms(logits, target)
        loss = losses / seen
        values = [value for value in map(average_precision, counts) if value is not None]
        if not values:
            return Validation("-loss", -loss, loss)
        metric = "pixel AP" if self.options.target == "binary" else "mean pixel AP"
        return Validation(metric, float(np.mean(values)), loss)

    def _target(self, batch: Batch, masks: Tensor) -> Tensor:
        """What the losses take of masks (B, 1, S, S): these, or class numbers (B, S, S), ignored where not known."""
        if self.options.target == "binary":
            return masks
        number = batch["target"].view(-1, 1, 1)
        untold = (number > 0) & (batch["mask"].amax(dim=(1, 2, 3)) == 0).view(-1, 1, 1)
        return torch.where(untold, IGNORED, (masks[:, 0] > 0) * number)

    def _losses(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        options = self.options
        names = ("gamma", "alpha", "tversky_alpha", "tversky_beta", "tversky_exponent")
        settings = LossSettings(**{name: getattr(options, name) for name in names})
        return weighted_sum(options.losses, options.table, logits, target, settings)

    def _histograms(self, logits: Tensor, target: Tensor) -> NDArray[np.int64]:
        """(K - 1, 2, BINS): `histogram` of each class but good against the rest."""
        if self.options.target == "binary":
            return histogram(logits, target)[None]
        known, classes = target != IGNORED, range(logits.shape[1])
        odds = [logits[:, k] - logits[:, [i for i in classes if i != k]].logsumexp(dim=1) for k in classes[1:]]
        return np.stack([histogram(o[known], target[known] == k + 1) for k, o in enumerate(odds)])


def blemished(
    images: Tensor, channels: int, masks: Tensor, settings: Synthetic, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pictures (B, C, S, S), or with partners behind (B, 2C, S, S), with synthetic defects on the pictures alone."""
    own, masks = add_defects(images[:, :channels], masks, settings, draw)
    return torch.cat([own, images[:, channels:]], dim=1), masks


def smaller(logits: Tensor, level: Tensor) -> Tensor:
    """What the final map (B, K, S, S) teaches a level (B, K, h, w): its mean in each cell, without gradient."""
    return F.adaptive_avg_pool2d(logits.detach(), (level.shape[-2], level.shape[-1]))


def shrink(target: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Masks (B, 1, S, S), or class numbers (B, S, S), at a coarser size: a cell is defective if any pixel in it is."""
    planes = target if target.ndim == 4 else target[:, None].float()
    coarse = F.adaptive_max_pool2d(planes, list(size))
    return coarse if target.ndim == 4 else coarse[:, 0].to(target.dtype)


TASK = Segmentation
