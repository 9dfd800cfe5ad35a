"""What fine-tuning starts from: a detector around the pretrained encoder, and what of it may learn."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ssl_defect.config import FinetuneSettings
from ssl_defect.console import say
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec
from ssl_defect.nets.weights import load_encoder_file, read_extra


def build_detector(spec: Spec, encoder_file: Path) -> tuple[Detector, dict[str, str]]:
    """A detector that starts from the encoder file, and that file's metadata; the rest comes from torch's seed.

    The metadata says as well which parts of the head start from it (`handed_over`, with commas between) and why one
    that it holds could not (`left_behind`).

    Raises:
        UserError: the file is damaged, or holds another backbone.
    """
    detector = Detector(build_encoder(spec.backbone, spec.image_size), spec)
    meta = load_encoder_file(detector.encoder, encoder_file)
    parts = load_parts(detector.head, encoder_file)
    for part in parts:
        say(f"finetune: the {part} starts from {encoder_file.name} as well")
    refused = misfit(detector.head, encoder_file)
    if refused:
        say(f"finetune: {encoder_file.name} holds more than the encoder, but {refused}")
    return detector, meta | {"handed_over": ", ".join(parts), "left_behind": refused}


def load_parts(head: nn.Module, file: Path) -> list[str]:
    """Load into the head's parts (such as `decoder`) what the encoder file holds under their names; return these.

    A part is taken only whole: with all its names and shapes.
    """
    taken = []
    for part, module in head.named_children():
        state, stored = module.state_dict(), read_extra(file, f"{part}.")
        if state and all(name in stored and stored[name].shape == value.shape for name, value in state.items()):
            module.load_state_dict({name: stored[name] for name in state})
            taken.append(part)
    return taken


def misfit(head: nn.Module, file: Path) -> str:
    """Which parts the encoder file holds in another shape than the head has them, and what to set; "" where none."""
    for part, module in head.named_children():
        state, stored = module.state_dict(), read_extra(file, f"{part}.")
        for name, value in state.items():
            if stored and (name not in stored or stored[name].shape != value.shape):
                return f"its {part} does not fit and starts anew ({_difference(name, value, stored)})"
    return ""


def _difference(name: str, value: Tensor, stored: dict[str, Tensor]) -> str:
    if isinstance(width := stored.get("last.0.weight"), Tensor) and name in stored:
        return f"it was made {len(width)} wide; set finetune.options.decoder_width={len(width)} to start from it"
    shape = list(stored[name].shape) if name in stored else "missing"
    made = "it was made for another decoder or target, or by an earlier version"
    return f"{made}: {name} is {shape}, here {list(value.shape)}"


def freeze(detector: Detector, settings: FinetuneSettings, trained: bool) -> None:
    """Keep still what shall not learn: the whole encoder, or the statistics of its BatchNorm; for `linear_probe` the
    head's dropout as well.

    Args:
        trained: the encoder was pretrained; a random one has no statistics worth keeping.

    Raises:
        UserError: `linear_probe` of a head that is more than a linear layer.
    """
    if settings.encoder == "linear_probe":
        _only_linear(detector)
    if settings.encoder in {"frozen", "linear_probe"} or settings.encoder_learning_rate == 0:
        detector.encoder.requires_grad_(False)
        detector.still = "encoder"
    elif settings.batch_norm == "frozen" or (settings.batch_norm == "auto" and trained):
        detector.still = "batch norm"


def _only_linear(detector: Detector) -> None:
    linear = getattr(detector.head, "linear", None)
    own = {id(p) for p in linear.parameters()} if isinstance(linear, nn.Linear) else set()
    if any(id(p) not in own for p in detector.head.parameters()):
        raise UserError(
            f"finetune.encoder: linear_probe needs a head of one linear layer, and that of {detector.spec.task} is "
            "more; accepted here: full, frozen, gradual"
        )
    for module in detector.head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
