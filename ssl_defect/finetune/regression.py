"""Regression: how bad is the defect, by its grade or by its area."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from ssl_defect.console import say
from ssl_defect.data.records import GOOD
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.finetune.losses import VALUE_LOSSES, LossSettings, check_losses, weighted_sum
from ssl_defect.finetune.pairs import PairTask, TrunkOptions, keep_golden, pictures
from ssl_defect.finetune.task import Batch, Validation, used
from ssl_defect.finetune.views import show
from ssl_defect.nets.detector import Detector
from ssl_defect.nets.heads import to_scale


class Options(TrunkOptions):
    """Settings of regression."""

    target: Literal["grade", "area"] = Field(
        "grade", description="`grade`: the grade of the set, in [0, 1]; `area`: the share of defective pixels."
    )
    scale: Literal["linear", "log"] = Field(
        "log", description="Scale on which areas are learnt and compared in the loss; of no effect on grades."
    )
    losses: dict[str, float] = Field(
        default_factory=lambda: {"l2": 1.0}, description="Weight of each loss in the sum: l1, l2, huber."
    )
    delta: float = Field(0.1, gt=0, le=1, description="Error at which the Huber loss turns from a parabola to a line.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of the pooled features dropped in training.")

    @model_validator(mode="after")
    def _losses_fit(self) -> Options:
        check_losses(self.losses, VALUE_LOSSES, "finetune.options.losses")
        return self


class Regression(PairTask):
    """One number from the pooled features."""

    def __init__(self, detector: Detector, options: Options, store: Store) -> None:
        super().__init__(detector, options, store)
        self.options = options
        keep_golden(detector, store)

    @property
    def losses(self) -> dict[str, float]:
        """Weight of each loss."""
        return used(self.options.losses)

    @staticmethod
    def classes(store: Store, options: Options) -> list[str]:  # type: ignore[override]
        """`good` and `defective`."""
        return [GOOD, "defective"]

    @staticmethod
    def targets(store: Store, options: Options) -> NDArray[Any]:  # type: ignore[override]
        """float32 (N,) on the scale that is learnt, NaN where the grade or the area is not known."""
        if options.target == "grade":
            return np.array([np.nan if s.grade is None else s.grade for s in store.samples], np.float32)
        areas = np.array([np.nan if s.label and not s.area else s.area for s in store.samples], np.float32)
        return to_scale(torch.from_numpy(areas)).numpy() if options.scale == "log" else areas

    @staticmethod
    def usable(store: Store, rows: NDArray[np.int64], options: Options) -> NDArray[np.int64]:  # type: ignore[override]
        """The rows whose grade or area is known; what is left out is said.

        Raises:
            UserError: none is, in training or in validation, or all are equal.
        """
        targets, what = Regression.targets(store, options), options.target
        known = np.isfinite(targets)
        for name, some in (("labelled training", rows), ("validation", store.rows("val"))):
            if len(some) and not known[some].any():
                other = "area, where the set has masks" if what == "grade" else "grade, where the set has grades"
                raise UserError(
                    f"finetune: none of the {len(some)} {name} images has a known {what}, which regression learns; "
                    f"set finetune.options.target to {other}, or finetune.task to classification"
                )
        kept = rows[known[rows]]
        if len(np.unique(targets[kept])) < 2:
            raise UserError(
                f"finetune: the {len(kept)} labelled training images all have the {what} that the first has, so "
                "there is nothing to learn; add images of another, or raise finetune.labels_per_class"
            )
        if len(kept) < len(rows):
            say(f"finetune: {len(rows) - len(kept)} images without a known {what} are left out")
        return np.asarray(kept, dtype=np.int64)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """-> "loss", and by name each loss unweighted."""
        draw: torch.Generator = batch["generator"]  # type: ignore[assignment]
        images, _ = show(pictures(batch), None, self.views, draw)
        outputs = self.detector(images)
        return self.taught(self._losses(outputs["value"], batch["target"]), images, outputs)

    def validation(self, batches: Iterable[Batch]) -> Validation:
        """Mean absolute error, negated, on the scale that is learnt; images without a known value count nothing."""
        errors, losses, count = 0.0, 0.0, 0
        for batch in batches:
            found = self.detector(pictures(batch).float() / 255)["value"].float()
            known = batch["target"].isfinite()
            if not known.any():
                continue
            found, target = found[known], batch["target"][known]
            losses += self._losses(found, target)["loss"].item() * len(target)
            errors += (found.clamp(0, 1) - target).abs().sum().item()
            count += len(target)
        return Validation("-MAE", -errors / count, losses / count)

    def _losses(self, found: Tensor, target: Tensor) -> dict[str, Tensor]:
        settings = LossSettings(delta=self.options.delta)
        return weighted_sum(self.options.losses, VALUE_LOSSES, found, target, settings)


TASK = Regression
