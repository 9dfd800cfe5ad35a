"""Classification: is the part defective, or which defects does it have."""

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
from ssl_defect.errors import UserError, nearest
from ssl_defect.finetune.losses import CLASS_LOSSES, LABEL_LOSSES, LossSettings, check_losses, weighted_sum
from ssl_defect.finetune.mixing import mix
from ssl_defect.finetune.pairs import PairTask, TrunkOptions, keep_golden, pictures
from ssl_defect.finetune.synthetic import Synthetic, add_drawn, refuse_classes
from ssl_defect.finetune.task import Batch, Validation, class_numbers, used
from ssl_defect.finetune.views import show
from ssl_defect.nets.detector import Detector
from ssl_defect.nets.heads import SEPARATOR


class Options(TrunkOptions):
    """Settings of classification."""

    target: Literal["binary", "defect", "labels"] = Field(
        "binary",
        description="`binary`: good or defective; `defect`: which of the set's defect classes; `labels`: which of "
        "several at once, where the class `crack+scratch` has both labels.",
    )
    losses: dict[str, float] = Field(
        default_factory=dict,
        description="Weight of each loss in the sum: cross_entropy and focal, or bce and focal of labels; where left "
        "out, cross_entropy or bce alone.",
    )
    gamma: float = Field(2.0, ge=0, le=10, description="Focusing exponent of the focal loss.")
    class_weights: dict[str, float] = Field(
        default_factory=dict, description="Weight in the loss by class name, at least 0; 1 for those left out."
    )
    smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing of the cross-entropy.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of the pooled features dropped in training.")
    mixup: float = Field(0.0, ge=0, le=10, description="Mixup by shares drawn from Beta(x, x); 0 mixes nothing.")
    cutmix: float = Field(0.0, ge=0, le=10, description="CutMix by areas drawn from Beta(x, x); 0 pastes nothing.")
    synthetic: Synthetic = Field(
        default_factory=Synthetic, description="Drawn defects on good pictures, which are defective then; binary only."
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_loss(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("losses"):
            return given
        return {**given, "losses": {"bce" if given.get("target") == "labels" else "cross_entropy": 1.0}}

    @model_validator(mode="after")
    def _losses_fit(self) -> Options:
        check_losses(self.losses, self.table, "finetune.options.losses")
        refuse_classes(self.synthetic, self.target)
        return self

    @property
    def table(self) -> Any:
        """The losses that fit the target."""
        return LABEL_LOSSES if self.target == "labels" else CLASS_LOSSES


class Classification(PairTask):
    """A weighted sum of losses on the logits of the pooled features."""

    weights: Tensor

    def __init__(self, detector: Detector, options: Options, store: Store) -> None:
        super().__init__(detector, options, store)
        self.options = options
        keep_golden(detector, store)
        self.blind = options.synthetic.share > 0 and not store.labels[store.rows("val")].any()
        names = detector.spec.classes
        self.register_buffer("weights", _weights(_learnt(names, options), options), persistent=False)

    @property
    def losses(self) -> dict[str, float]:
        """Weight of each loss."""
        return used(self.options.losses)

    @staticmethod
    def classes(store: Store, options: Options) -> list[str]:  # type: ignore[override]
        """`good` and `defective`, or `good` and the set's defect classes, or `good` and all labels in these."""
        if options.target == "labels":
            return [GOOD, *sorted({label for name in store.classes for label in name.split(SEPARATOR)} - {GOOD})]
        return store.classes if options.target == "defect" else [GOOD, "defective"]

    @staticmethod
    def targets(store: Store, options: Options) -> NDArray[Any]:  # type: ignore[override]
        """(N,) number of each row's class; of labels float32 (N, K), 1 for each that the row has."""
        if options.target == "binary":
            return store.labels
        if options.target == "defect":
            return class_numbers(store)
        labels = Classification.classes(store, options)[1:]
        return np.array([[name in defect.split(SEPARATOR) for name in labels] for defect in store.defects], np.float32)

    @staticmethod
    def strata(store: Store, options: Options) -> NDArray[np.int64]:  # type: ignore[override]
        """(N,) number of each row's class, or of its set of labels."""
        return store.labels if options.target == "binary" else class_numbers(store)

    @staticmethod
    def usable(store: Store, rows: NDArray[np.int64], options: Options) -> NDArray[np.int64]:  # type: ignore[override]
        """All rows; says which labels none of them has.

        Raises:
            UserError: they are all of one class.
        """
        found = {store.labels[row] if options.target == "binary" else store.defects[row] for row in rows}
        if found == {0} and options.synthetic.share:
            say("finetune: no labelled defect: the detector learns from synthetic ones alone")
        elif len(found) < 2:
            only = store.defects[rows[0]] if len(rows) else "missing"
            raise UserError(
                f"finetune: the labelled training images are all '{only}' and classification needs at least two "
                "classes; add images of the other, or train with synthetic defects by finetune.options.synthetic.share"
            )
        if options.target == "labels":
            empty = Classification.targets(store, options)[rows].sum(axis=0) == 0
            missing = [
                name for name, none in zip(Classification.classes(store, options)[1:], empty, strict=True) if none
            ]
            if missing:
                say(f"finetune: no labelled training image has {', '.join(missing)}, so that cannot be learnt")
        return rows

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """-> "loss", and by name each loss unweighted."""
        draw: torch.Generator = batch["generator"]  # type: ignore[assignment]
        images, _ = show(pictures(batch), None, self.views, draw)
        target, options = batch["target"], self.options
        if options.synthetic.share:
            images, target = blemished(images, batch["image"].shape[1], target, options.synthetic, draw)
        if options.mixup or options.cutmix:
            soft = target if target.ndim > 1 else F.one_hot(target, len(self.detector.spec.classes)).float()
            images, target = mix(images, soft, options.mixup, options.cutmix, draw)
        outputs = self.detector(images)
        return self.taught(self._losses(self._learnt(outputs), target), images, outputs)

    def validation(self, batches: Iterable[Batch]) -> Validation:
        """AUROC; of several classes or labels the mean over them of each against the rest.

        Without a defective image to look at, synthetic defects on the good ones stand for them, always the same.
        """
        probabilities, targets, losses = [], [], []
        several = self.options.target == "labels"
        draw = torch.Generator(self.weights.device).manual_seed(0)
        for batch in batches:
            images, target = pictures(batch).float() / 255, batch["target"]
            if self.blind:
                half = self.options.synthetic.model_copy(update={"share": 0.5})
                images, target = blemished(images, batch["image"].shape[1], target, half, draw)
            logits = self._learnt(self.detector(images))
            losses.append(self._losses(logits, target)["loss"].item() * len(logits))
            p = logits.float().sigmoid() if several else logits.float().softmax(dim=1)
            probabilities.append(p.cpu().numpy())
            targets.append(target.cpu().numpy())
        true, found = np.concatenate(targets), np.concatenate(probabilities)
        loss = sum(losses) / len(true)
        value = mean_label_auroc(found, true) if several else mean_auroc(found, true)
        return Validation("-loss", -loss, loss) if value is None else Validation("AUROC", value, loss)

    def _learnt(self, outputs: dict[str, Tensor]) -> Tensor:
        """Logits (B, K): of labels without that of good, which is always 0."""
        logits = outputs["logits"]
        return logits[:, 1:] if self.options.target == "labels" else logits

    def _losses(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        options = self.options
        settings = LossSettings(gamma=options.gamma, smoothing=options.smoothing, weights=self.weights)
        return weighted_sum(options.losses, options.table, logits, target, settings)


def blemished(
    images: Tensor, channels: int, target: Tensor, settings: Synthetic, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pictures, partners behind them untouched, with drawn defects on good ones, and targets (B,) that say so."""
    own, masks = add_drawn(images[:, :channels], target > 0, settings, draw)
    return torch.cat([own, images[:, channels:]], dim=1), torch.where(masks.flatten(1).amax(dim=1) > 0, 1, target)


def mean_auroc(probabilities: NDArray[np.float32], target: NDArray[np.int64]) -> float | None:
    """Mean over the classes present of the AUROC of each class against the rest; None where only one is present.

    Args:
        probabilities: (n, K).
        target: (n,) class numbers.
    """
    present = np.unique(target)
    return mean_label_auroc(probabilities[:, present], target[:, None] == present)


def mean_label_auroc(probabilities: NDArray[np.float32], target: NDArray[Any]) -> float | None:
    """Mean AUROC of the labels that some images have and others have not; None where there is none.

    Args:
        probabilities: (n, K).
        target: (n, K) of 0 and 1.
    """
    from sklearn.metrics import roc_auc_score  # slow to load

    told = [i for i in range(target.shape[1]) if 0 < target[:, i].sum() < len(target)]
    return float(np.mean([roc_auc_score(target[:, i], probabilities[:, i]) for i in told])) if told else None


def _learnt(classes: list[str], options: Options) -> list[str]:
    return classes[1:] if options.target == "labels" else classes


def _weights(classes: list[str], options: Options) -> Tensor:
    for name, weight in options.class_weights.items():
        if name not in classes or not weight >= 0:
            raise UserError(
                f"finetune.options.class_weights: '{name}: {weight}' does not fit; accepted: weights of at least 0 "
                f"for {', '.join(classes)}{nearest(name, classes)}"
            )
    return torch.tensor([options.class_weights.get(name, 1.0) for name in classes])


TASK = Classification
