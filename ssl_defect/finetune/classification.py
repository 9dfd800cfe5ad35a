"""Classification: is the part defective, or which defect does it have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ssl_defect.data.records import GOOD
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError, nearest
from ssl_defect.finetune.losses import cross_entropy, focal_loss
from ssl_defect.finetune.task import Batch, Task, Validation
from ssl_defect.finetune.views import Views, show
from ssl_defect.nets.detector import Detector


class Options(Views):
    """Settings of classification."""

    target: Literal["binary", "defect"] = Field(
        "binary", description="`binary`: good or defective; `defect`: which of the set's defect classes."
    )
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="What is minimised.")
    gamma: float = Field(2.0, ge=0, le=10, description="Focusing exponent of the focal loss.")
    class_weights: dict[str, float] = Field(
        default_factory=dict, description="Weight in the loss by class name, at least 0; 1 for those left out."
    )
    smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing of the cross-entropy.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of the pooled features dropped in training.")


class Classification(Task):
    """Cross-entropy or focal loss on the pooled features."""

    weights: Tensor

    def __init__(self, detector: Detector, options: Options, store: Store) -> None:
        super().__init__(detector, options, store)
        self.options = options
        self.register_buffer("weights", _weights(detector.spec.classes, options), persistent=False)

    @property
    def losses(self) -> dict[str, float]:
        """The one loss."""
        return {self.options.loss: 1.0}

    @staticmethod
    def classes(store: Store, options: Options) -> list[str]:  # type: ignore[override]
        """`good` and `defective`, or `good` and the set's defect classes."""
        return store.classes if options.target == "defect" else [GOOD, "defective"]

    @staticmethod
    def targets(store: Store, options: Options) -> NDArray[np.int64]:  # type: ignore[override]
        """(N,) number of each row's class."""
        if options.target == "binary":
            return store.labels
        numbers = {name: number for number, name in enumerate(store.classes)}
        return np.array([numbers[defect] for defect in store.defects], dtype=np.int64)

    @staticmethod
    def usable(store: Store, rows: NDArray[np.int64], options: Options) -> NDArray[np.int64]:  # type: ignore[override]
        """All rows.

        Raises:
            UserError: they are all of one class.
        """
        found = {store.defects[row] if options.target == "defect" else store.labels[row] for row in rows}
        if len(found) < 2:
            only = store.defects[rows[0]] if len(rows) else "missing"
            raise UserError(
                f"finetune: the labelled training images are all '{only}' and classification needs at least two "
                "classes; add images of the other, or set data.protocol to supervised"
            )
        return rows

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """-> "loss"."""
        draw: torch.Generator = batch["generator"]  # type: ignore[assignment]
        images, _ = show(batch["image"], None, self.views, draw)
        return {"loss": self._loss(self.detector(images)["logits"], batch["target"])}

    def validation(self, batches: Iterable[Batch]) -> Validation:
        """AUROC; for more than two classes the mean over classes of each against the rest."""
        probabilities, targets, losses = [], [], []
        for batch in batches:
            logits = self.detector(batch["image"].float() / 255)["logits"]
            losses.append(self._loss(logits, batch["target"]).item() * len(logits))
            probabilities.append(logits.float().softmax(dim=1).cpu().numpy())
            targets.append(batch["target"].cpu().numpy())
        target = np.concatenate(targets)
        loss = sum(losses) / len(target)
        value = mean_auroc(np.concatenate(probabilities), target)
        return Validation("-loss", -loss, loss) if value is None else Validation("AUROC", value, loss)

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.options.loss == "focal":
            return focal_loss(logits, target, self.options.gamma, self.weights)
        return cross_entropy(logits, target, self.weights, self.options.smoothing)


def mean_auroc(probabilities: NDArray[np.float32], target: NDArray[np.int64]) -> float | None:
    """Mean over the classes present of the AUROC of each class against the rest; None where only one is present.

    Args:
        probabilities: (n, K).
        target: (n,) class numbers.
    """
    present = np.unique(target)
    if len(present) < 2:
        return None
    return float(np.mean([roc_auc_score(target == number, probabilities[:, number]) for number in present]))


def _weights(classes: list[str], options: Options) -> Tensor:
    for name, weight in options.class_weights.items():
        if name not in classes or not weight >= 0:
            raise UserError(
                f"finetune.options.class_weights: '{name}: {weight}' does not fit; accepted: weights of at least 0 "
                f"for {', '.join(classes)}{nearest(name, classes)}"
            )
    return torch.tensor([options.class_weights.get(name, 1.0) for name in classes])


TASK = Classification
