"""Where the detector looks: Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) for CNNs and ViTs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from ssl_defect.evaluate.metrics import Array
from ssl_defect.nets.detector import Detector


class _Logits(nn.Module):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.detector(x)["logits"]
        return logits


def defective_logit(logits: Tensor) -> Tensor:
    """What the map explains, from the logits of one image.

    Of classes (K,): the log-odds of being defective. Of pixels (1, S, S), or (K, S, S) turned into log-odds: the
    mean logit where the image is predicted defective, or the largest logit where it nowhere is.
    """
    if len(logits) > 1:
        logits = torch.logsumexp(logits[1:], 0) - logits[0]
    if logits.ndim == 0:
        return logits
    inside = logits > 0
    return logits[inside].mean() if inside.any() else logits.max()


def target_layer(detector: Detector) -> nn.Module:
    """The last stage of a CNN; of a plain ViT the norm at the head of its last block.

    Patch tokens behind the last attention get no gradient where only the class token is read, hence the norm before.
    """
    body = detector.encoder.body
    if detector.encoder.is_vit:
        norm: nn.Module = body.blocks[-1].norm1
        return norm
    stages = body.feature_info if isinstance(body.feature_info, list) else body.feature_info.info
    layer: nn.Module = body.get_submodule(stages[-1]["module"])
    return layer


def gradcam(detector: Detector, x: Tensor) -> Array:
    """Grad-CAM of pictures (B, C, S, S) in [0, 1]: float32 (B, S, S), each scaled to [0, 1]; in float32 arithmetic.

    The detector's parameters are left without gradients.
    """
    targets: list[Any] = [defective_logit] * len(x)
    picture = x.detach().clone().requires_grad_()  # so that a frozen encoder still passes gradients on
    explainer = GradCAM(
        model=_Logits(detector), target_layers=[target_layer(detector)], reshape_transform=detector.encoder.map_of
    )
    try:
        with torch.enable_grad():
            cam = explainer(input_tensor=picture, targets=targets)
    finally:
        explainer.activations_and_grads.release()
        detector.zero_grad(set_to_none=True)
    # a pair passes through the encoder as two pictures, the references behind
    scaled: Array = np.clip(np.nan_to_num(cam[: len(x)]), 0, 1).astype(np.float32)
    return scaled


def worth_a_look(labels: Array, scores: Array, threshold: float, count: int) -> Array:
    """Positions of at most `count` images: worst misses, worst false alarms and best hits, a third each.

    What one kind lacks, the others take.
    """
    order = np.argsort(scores, kind="stable")
    called, bad = scores[order] >= threshold, labels[order] > 0
    misses = order[bad & ~called]
    alarms = order[~bad & called][::-1]
    hits = order[bad & called][::-1]
    turns = [kind[i] for i in range(len(order)) for kind in (misses, alarms, hits) if i < len(kind)]
    return np.array(turns[:count], np.int64)
