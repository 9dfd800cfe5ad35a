"""What the training loop is given: a task, the average of its detector, and the optimizer of both parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_defect.config import FinetuneSettings
from ssl_defect.errors import UserError
from ssl_defect.finetune.task import Batch, Task
from ssl_defect.nets.backbones import Encoder, layer_depths
from ssl_defect.nets.detector import Detector
from ssl_defect.train.averaging import Average
from ssl_defect.train.optim import Part, hold_back, make_optimizer
from ssl_defect.train.schedules import Lowered, make_schedule


class Learner(nn.Module):
    """A task in training.

    Attributes:
        task: what learns.
        average: the moving average of its detector, None without `finetune.ema`.
    """

    def __init__(self, task: Task, settings: FinetuneSettings) -> None:
        super().__init__()
        self.task = task
        self.optimizer = optimizer_of(task.detector, settings)
        self.steps = settings.steps
        self.average = Average(task.detector, settings.ema) if settings.ema else None

    @property
    def detector(self) -> Detector:
        """The one to validate and keep: the average where there is one."""
        if self.average is None:
            return self.task.detector
        averaged = self.average.module
        assert isinstance(averaged, Detector)
        return averaged

    @contextmanager
    def shown(self) -> Iterator[Task]:
        """The task around the detector to validate, in eval mode; the loop sets train mode again."""
        learning = self.task.detector
        self.task.detector = self.detector
        try:
            yield self.task.eval()
        finally:
            self.task.detector = learning

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """What the task gives; layers whose turn has not come stand still in this step."""
        hold_back(self.optimizer, progress)
        losses: dict[str, Tensor] = self.task(batch, progress)
        return losses

    def after_step(self, progress: float) -> None:
        """The task's own `after_step`, then the average goes along."""
        own = getattr(self.task, "after_step", None)
        if own is not None:
            own(progress)
        if self.average is not None:
            self.average.update(self.task.detector, progress * self.steps)


def rate_of(settings: FinetuneSettings) -> Lowered:
    """The multiplier of all learning rates, whose factor `plateau` lowers between the looks."""
    return Lowered(make_schedule(settings.schedule, settings.warmup, settings.milestones, settings.drop_factor))


def optimizer_of(detector: Detector, settings: FinetuneSettings) -> Optimizer:
    """The optimizer of encoder and head.

    Raises:
        UserError: the layers of the encoder are to be told apart and timm does not say which is how deep.
    """
    head = Part(list(detector.head.parameters()), settings.learning_rate)
    parts = [*encoder_parts(detector.encoder, settings), head]
    return make_optimizer(settings.optimizer, parts, settings.weight_decay, settings.momentum, settings.nesterov)


def encoder_parts(encoder: Encoder, settings: FinetuneSettings) -> list[Part]:
    """The encoder as one part, or as one per depth from the last layer down to the stem.

    Layer-wise decay as in BEiT (Bao et al. 2022, arXiv:2106.08254, appendix): the rate of a layer is that of the last
    one times `layer_decay` for every layer between. Gradual unfreezing as in ULMFiT (Howard and Ruder 2018,
    arXiv:1801.06146, section 3.3): first the head alone, then one layer more at a time, evenly until `unfreeze`.
    """
    rate, gradual = settings.encoder_learning_rate, settings.encoder == "gradual"
    if settings.layer_decay == 1 and not gradual:
        return [Part(list(encoder.parameters()), rate)]
    depths = layer_depths(encoder)
    top = max(depths.values())
    if top == 0:
        raise UserError(
            f"finetune: timm does not tell the layers of {encoder.name} apart; set finetune.layer_decay to 1 and "
            "finetune.encoder to full"
        )
    layers: list[list[nn.Parameter]] = [[] for _ in range(top + 1)]
    for name, parameter in encoder.named_parameters():
        layers[top - depths[name]].append(parameter)
    since = [settings.unfreeze * (i + 1) / (top + 1) if gradual else 0.0 for i in range(top + 1)]
    return [Part(layer, rate * settings.layer_decay**i, since[i]) for i, layer in enumerate(layers)]
