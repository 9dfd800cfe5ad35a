"""What every pretraining method is to the stage, and what several of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssl_defect.config import Settings
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.train.plan import Batch

Views = dict[str, Tensor]

COLLAPSED = 0.02  # spread below which all embeddings count as alike; a healthy run stays above 0.3


@dataclass(frozen=True)
class Facts:
    """What a method may need to know of the run.

    Attributes:
        channels: 1 for a grey set, else 3.
        images: training images.
        image_size: side of a picture, in pixels.
        batch_size: images per step over all processes.
        epochs: passes over the images.
        steps_per_epoch: optimizer steps in an epoch.
        sample: some training pictures of a colour set, uint8 (n, C, S, S); None where nobody looked.
    """

    channels: int
    images: int
    image_size: int
    batch_size: int
    epochs: int
    steps_per_epoch: int
    sample: Tensor | None = None


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """Every BatchNorm in it."""
    return [found for found in module.modules() if isinstance(found, nn.modules.batchnorm._BatchNorm)]


def has_statistics(encoder: nn.Module) -> bool:
    """Whether some BatchNorm of the encoder has seen pictures: a new one has a mean of 0 everywhere."""
    means = [norm.running_mean for norm in batch_norms(encoder)]
    return any(isinstance(mean, Tensor) and bool(mean.any()) for mean in means)


class Method(nn.Module):
    """A pretraining method: its networks, its views and its loss.

    A module of a method declares `Options`, a subclass of this class, and `METHOD`, that subclass. A step is
    `losses(views(batch, progress), progress)`: all that is random about it happens in `views`, all that learns in
    `losses`. A method may have `after_step(progress)` (a momentum encoder, a queue); all its state lies in
    parameters and buffers.

    Attributes:
        encoder: the network that learns by gradients.
        partners: whether batches are to bring "partner", a near-copy of each picture (the picture itself where it
            has none), of the form of "image".
        good_only: train on good images alone.
        least_batch: pictures per step and process that it needs at least.
        advice: what to try when embeddings collapse.
        logs: what each scalar beside "loss" and "spread" is, with its range, as a person reads it.
        strip: names of the pictures in a strip of `pictures`.
        title: its name as papers write it; the name of the class where left empty.
        chance: loss of an answer that never looks at the picture (the mean patch, an even guess), None where there is
            none; a run that stays there is warned of, and the report draws the line.
    """

    good_only: ClassVar[bool] = False
    least_batch: ClassVar[int] = 2
    advice: ClassVar[str] = "lower pretrain.learning_rate, raise pretrain.batch_size or lengthen pretrain.warmup"
    logs: ClassVar[dict[str, str]] = {}
    strip: ClassVar[tuple[str, ...]] = ("picture",)
    title: ClassVar[str] = ""
    partners: bool
    chance: float | None

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.partners = False
        self.chance = None
        self._still: list[nn.Module] = []

    @classmethod
    def check(cls, encoder: Encoder, options: Any, facts: Facts) -> None:
        """Refuse a backbone or a set that does not fit.

        Raises:
            UserError: naming what fits.
        """

    @classmethod
    def build(cls, encoder: Encoder, options: Settings, facts: Facts) -> Method:
        """The method after `check`; its own weights come from torch's global seed."""
        cls.check(encoder, options, facts)
        return cls(encoder, options, facts)  # type: ignore[call-arg]

    def keep_statistics(self, setting: str) -> bool:
        """Hold the BatchNorm statistics of the encoder and its copies where they are; whether they are held.

        Gathered anew on a small set they undo what an encoder was trained for, though no weight changes.

        Args:
            setting: `frozen`; `train` holds none; `auto` those of an encoder that has seen pictures.
        """
        if setting == "frozen" or (setting == "auto" and has_statistics(self.encoder)):
            encoders = [module for module in self.modules() if isinstance(module, Encoder)]
            self._still = [norm for encoder in encoders for norm in batch_norms(encoder)]
        return bool(self._still)

    def train(self, mode: bool = True) -> Self:
        """Set train or eval mode; statistics that are held stay as they are."""
        super().train(mode)
        for norm in self._still:
            norm.eval()
        return self

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """What `losses` gives for the `views` of the batch."""
        return self.losses(self.views(batch, progress), progress)

    def views(self, batch: Batch, progress: float) -> Views:
        """All that is random about a step, drawn from the batch's generator; no parameter takes part.

        Args:
            batch: "image" uint8 (B, C, S, S), "group", "index", "label" (B,), a "generator", and "partner" if asked.
            progress: share of the run that is done, in [0, 1].

        Returns:
            Tensors by name, the pictures of the batch along the first dimension of each.
        """
        raise NotImplementedError

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Scalars of one step: "loss", the `logs`, and "spread" where there are embeddings to watch for collapse."""
        raise NotImplementedError

    def preliminary(self) -> tuple[nn.Module, int] | None:
        """A module that is trained before the method (a tokenizer), and for how many epochs; it is part of the method.

        It has `forward(batch, progress) -> {"loss", ...}` as a method has, and batches are the method's own.
        The method makes it with parameters that take no gradient; they take one while it is trained.
        """
        return None

    def check_preliminary(self, logs: dict[str, float]) -> None:
        """Refuse to begin with what `preliminary` came to, given the means of its last epoch.

        Raises:
            UserError: what is wrong with it and what to try.
        """

    def pictures(self, batch: Batch) -> Tensor:
        """A strip per image of what the method sees or paints: (B, n, C, S, S) in [0, 1], the image itself first."""
        raise NotImplementedError

    @property
    def handed_on(self) -> Encoder:
        """The network that is measured and handed on: the one that learns, unless the paper takes its average."""
        return self.encoder

    def handover(self) -> dict[str, Tensor]:
        """Tensors to hand on beside the encoder, keyed with a prefix of their own such as `decoder.`."""
        return {}


def refuse(method: str, encoder: Encoder, fitting: str) -> UserError:
    """The error for a backbone that does not fit, naming those that do."""
    return UserError(f"pretrain.method: {method} does not fit {encoder.name}; it fits {fitting}")


def spread(embeddings: Tensor) -> Tensor:
    """How far embeddings (B, D) are from being all alike: 0 when they are, about 1 when they fill the sphere.

    Mean over the dimensions of the standard deviation over the batch of the L2-normalised embeddings, times sqrt(D)
    (Chen and He 2021, section 4.1).
    """
    unit = nn.functional.normalize(embeddings.detach().float(), dim=1)
    return unit.std(dim=0, correction=0).mean() * math.sqrt(unit.shape[1])


def gather(x: Tensor) -> Tensor:
    """Rows (B, ...) of all processes (P * B, ...), in order of rank; gradients flow back to each process's own.

    A loss computed on the gathered rows and averaged over processes, as DDP does, has the gradient that one process
    would get on the whole batch. Without processes it is `x`.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    gathered: Tensor = _Gather.apply(x)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
