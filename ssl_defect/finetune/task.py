"""What every task is to the stage and to the training loop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_defect.data.store import Store
from ssl_defect.finetune.distillation import Teacher
from ssl_defect.finetune.views import Views
from ssl_defect.nets.detector import Detector
from ssl_defect.train.batches import Extras

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Validation:
    """One look at the validation images: the higher `value` wins, between equals the lower `loss`."""

    metric: str
    value: float
    loss: float

    @property
    def rank(self) -> tuple[float, float]:
        """To be compared: the higher the better."""
        return self.value, -self.loss


class Task(nn.Module):
    """A detector in training. Its file also holds its `Options`, and `TASK`, which is the class.

    A batch holds "image" uint8 (B, C, S, S), "target" (B,) or (B, K) of `targets`, "generator" on the images' device,
    "mask" uint8 (B, 1, S, S) where the store has masks, and what `extras` gives.

    Args:
        store: the prepared pictures, for the names and numbers of classes.

    Attributes:
        teacher: a finished detector to learn from as well, None without distillation.
    """

    teacher: Teacher | None = None

    def __init__(self, detector: Detector, options: Views, store: Store) -> None:
        super().__init__()
        self.detector = detector
        self.views = options

    @property
    def losses(self) -> dict[str, float]:
        """Weight of each loss in the sum that is minimised."""
        raise NotImplementedError

    @staticmethod
    def classes(store: Store, options: Views) -> list[str]:
        """Names of what the detector tells apart, `good` first."""
        raise NotImplementedError

    @staticmethod
    def targets(store: Store, options: Views) -> NDArray[np.int64]:
        """(N,) class number of every row, or float32 (N,) or (N, K) where the task learns numbers."""
        raise NotImplementedError

    @staticmethod
    def strata(store: Store, options: Views) -> NDArray[np.int64]:
        """(N,) of every row: a balanced batch holds each number equally often; good or defective if not overridden."""
        return store.labels

    @staticmethod
    def extras(store: Store, options: Views) -> Extras | None:
        """What gives a batch more than pictures, targets and masks; nothing if not overridden."""
        return None

    @staticmethod
    def usable(store: Store, rows: NDArray[np.int64], options: Views) -> NDArray[np.int64]:
        """The labelled rows that the task can learn from.

        Raises:
            UserError: nothing can be learnt from them.
        """
        raise NotImplementedError

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """-> "loss" and its parts, scalars, from random views of the batch; `progress` in [0, 1]."""
        raise NotImplementedError

    def taught(self, logs: dict[str, Tensor], pictures: Tensor, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of these pictures and outputs, with what the teacher has to say."""
        return logs if self.teacher is None else self.teacher.add(logs, pictures, outputs)

    def validation(self, batches: Iterable[Batch]) -> Validation:
        """Quality on whole, unaugmented batches; call it in eval mode and without gradients."""
        raise NotImplementedError


def class_numbers(store: Store) -> NDArray[np.int64]:
    """(N,) place of each row's defect in `store.classes`; 0 is good."""
    return store.class_numbers


def used(losses: dict[str, float]) -> dict[str, float]:
    """The losses that have a weight."""
    return {name: weight for name, weight in losses.items() if weight}
