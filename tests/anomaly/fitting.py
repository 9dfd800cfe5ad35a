"""Small detectors of anomalies, fitted on small parts; what the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.nets.anomaly.base import AnomalyHead
from ssl_defect.nets.anomaly.trained import TrainedHead
from ssl_defect.nets.backbones import Encoder, build_encoder

SIZE, COUNT = 32, 24
SMALL: dict[str, dict[str, Any]] = {  # what suits 24 parts of 32 pixels; defaults are for real sets
    "patchcore": {"strides": (4, 8), "share": 0.2},
    "padim": {"strides": (4, 8), "dimensions": 12},
    "simplenet": {"strides": (4, 8), "hidden": 32, "steps": 60, "batch_size": 8},
    "glass": {"strides": (4, 8), "hidden": 32, "ascents": 2, "steps": 60, "batch_size": 8},
    "synthetic": {"decoder_width": 8, "steps": 60, "batch_size": 8, "learning_rate": 5e-3},
    "isolation_forest": {"trees": 60},
    "reverse_distillation": {"strides": (8, 16), "width": 32, "steps": 50},
    "autoencoder": {"error": "l2", "code": 8, "width": 8, "steps": 40, "learning_rate": 5e-3},
    "mae": {"strides": (4, 8), "width": 16, "depth": 1, "steps": 40},
}


def options_of(name: str, **more: Any) -> dict[str, Any]:
    """Validated options of a detector with `SMALL` for defaults."""
    kind = import_module(DETECTORS[name][0]).OPTIONS[name]
    return {"detector": name, **kind(**SMALL.get(name, {}) | more).model_dump(mode="json")}


def encoder(name: str = "test_resnet") -> Encoder:
    torch.manual_seed(0)
    return build_encoder(name, SIZE).eval()


def parts(count: int = COUNT, seed: int = 0, spot: bool = False) -> Tensor:
    x = 0.5 + 0.05 * torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    if spot:
        x[:, :, 20:26, 8:14] += 0.4
    return x.clamp(0, 1)


def fitted(name: str, body: Encoder, **more: Any) -> AnomalyHead:
    """A head fitted on `parts()`, and trained where it is one that learns, as the stage does it."""
    torch.manual_seed(0)
    options = options_of(name, **more)
    kind = import_module(DETECTORS[name][0]).HEADS[name]
    head: AnomalyHead = kind(body, options | kind.measured(body, options, COUNT)).eval()
    good = parts()

    def batches() -> Iterator[Tensor]:
        yield from good.split(7)

    with torch.no_grad():
        head.fit(body, batches, 0)
    if isinstance(head, TrainedHead):
        train(head, body, good)
    return head.eval()


def train(head: TrainedHead, body: Encoder, good: Tensor) -> list[float]:
    """Steps down the loss; its values."""
    body.requires_grad_(False)
    options, losses = head.options, []
    optimizer = torch.optim.AdamW(head.parameters(), options["learning_rate"], weight_decay=options["weight_decay"])
    generator = torch.Generator()
    head.train()
    for step in range(options["steps"]):
        torch.manual_seed(step)
        rows = torch.randperm(len(good), generator=generator.manual_seed(step))[: options["batch_size"]]
        loss = head.loss(body, good[rows], generator)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    head.eval()
    return losses
