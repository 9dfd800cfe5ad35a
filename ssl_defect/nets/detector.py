"""A detector: encoder and head in one module, and in one file that suffices to load it anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ssl_defect.artifacts import atomic
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.nets.heads import HEADS

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Spec:
    """What a detector is built from.

    Attributes:
        task: a name of `HEADS`.
        backbone: a timm backbone.
        image_size: side of the square pictures that it takes, in pixels.
        channels: 1 for grey pictures, 3 for colour.
        classes: names of what it tells apart, `good` first.
        options: settings of the task; the head takes its own from them.
        white: value of white in 16-bit pictures.
    """

    task: str
    backbone: str
    image_size: int
    channels: int
    classes: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    white: int = 65535


class Detector(nn.Module):
    """Encoder and head.

    Attributes:
        spec: what it was built from.
        still: what keeps its statistics and drops nothing in train mode: the whole `encoder`, its `batch norm`, or
            `nothing`.
    """

    still: Literal["encoder", "batch norm", "nothing"] = "nothing"

    def __init__(self, encoder: Encoder, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.head = HEADS[spec.task](encoder, spec.classes, spec.options)

    def train(self, mode: bool = True) -> Detector:
        """Set train or eval mode, except for what is `still`."""
        super().train(mode)
        if self.still == "encoder":
            self.encoder.eval()
        elif self.still == "batch norm":
            for module in self.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Pictures (B, C, S, S) in [0, 1], or pairs (B, 2C, S, S) -> outputs of the head, among them "logits".

        The logits are (B, K) of images, or (B, 1, S, S) and (B, K, S, S) of pixels; class 0 is good.
        """
        outputs: dict[str, Tensor] = self.head(self.encoder, x)
        return outputs

    @torch.no_grad()
    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Pictures (B, C, S, S) in [0, 1], or pairs (B, 2C, S, S) -> predictions; call it in eval mode.

        Returns:
            "score" (B,), higher is more defective; classification adds "probabilities" (B, K) or "labels" (B, K - 1),
            regression "value" (B,), segmentation "map" (B, S, S), all float32 in [0, 1]; of classes also "class_map"
            uint8 (B, S, S), the likeliest defect of each pixel.
        """
        return self.head.predict(self(x))

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Pictures (B, C, S, S) in [0, 1] -> pooled features of the encoder (B, width); of a pair without reference."""
        features: Tensor = self.encoder(x[:, : self.spec.channels])
        return features


def save_detector(path: Path, detector: Detector, meta: Mapping[str, str] | None = None) -> None:
    """Write weights, spec and `meta` to one safetensors file, atomically."""
    # one metadata key, because the order of several is not fixed and equal detectors are to give equal files
    about = {"format_version": FORMAT_VERSION, **asdict(detector.spec), "meta": dict(meta or {})}
    tensors = {name: value.detach().cpu().contiguous() for name, value in detector.state_dict().items()}
    with atomic(path) as temporary:
        # as bytes: safetensors' own writer hides a full disk behind an error of its own
        temporary.write_bytes(save(tensors, metadata={"detector": json.dumps(about, sort_keys=True)}))


def load_detector(path: Path) -> Detector:
    """Read a detector, on the CPU and in eval mode.

    Raises:
        UserError: the file is missing, damaged, no detector, or of a later format.
    """
    from ssl_defect.nets.classical.detector import CLASSICAL, ClassicalDetector

    about, tensors = _read(path)
    if about.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: detector of format {about.get('format_version')}, this version reads {FORMAT_VERSION}; "
            "install the version of ssl-defect that wrote it"
        )
    try:
        spec = Spec(**{name: about[name] for name in Spec.__dataclass_fields__})
        if spec.task == CLASSICAL:
            return ClassicalDetector(spec, tensors)
        detector = Detector(build_encoder(spec.backbone, spec.image_size), spec)
        detector.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{path}: its weights do not fit what it says of itself; run `ssl-defect finetune`") from error
    return detector.eval()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise UserError(f"{path}: missing; run `ssl-defect finetune` first")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["detector"])
            return dict(about), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: damaged, or not a detector; run `ssl-defect finetune` again") from error
