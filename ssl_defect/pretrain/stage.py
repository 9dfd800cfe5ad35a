"""The pretraining stage: prepared pictures in, an encoder file and its history out."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ssl_defect.config import Recipe, Settings, validate
from ssl_defect.console import say
from ssl_defect.data.store import Store, open_for_training
from ssl_defect.errors import UserError, nearest
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.weights import load_start, save_encoder
from ssl_defect.pretrain import METHODS
from ssl_defect.pretrain.base import Facts, Method
from ssl_defect.pretrain.history import describe, shown, write_summary
from ssl_defect.pretrain.probe import Probe
from ssl_defect.pretrain.tensorboard import require_tensorboard
from ssl_defect.pretrain.training import train, train_preliminary
from ssl_defect.pretrain.watch import Watch
from ssl_defect.pretrain.work import CHECKPOINT, ENCODER, PRELIMINARY, Work
from ssl_defect.train.batches import Rows
from ssl_defect.train.checkpoint import remove_checkpoints
from ssl_defect.train.device import lay_out, make_fabric, precision_name
from ssl_defect.train.seeds import mixed_seed

USUAL_BATCH = 64


def pretrain(recipe: Recipe, prepared: Path, out: Path) -> None:
    """Bring an encoder to its weights and leave it in `out`, going on from a killed run's checkpoint if there is one.

    Leaves `encoder.safetensors` and `pretrain.json`; for methods that train `history.csv` and `pictures.npz`; and as
    `pretrain.snapshots`, `tensorboard` and `keep_every` say `snapshots.npz`, a folder `tensorboard` and
    `encoder-epoch-NNNN.safetensors`.

    Args:
        recipe: its `model`, `pretrain`, `compute` and seed are used.
        prepared: a finished prepare folder.
        out: an existing or new folder.

    Raises:
        UserError: a setting, backbone or set that does not fit; embeddings that collapsed; a loss that is no number.
    """
    started, out = time.monotonic(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    kind, options = choose(recipe)
    if recipe.pretrain.tensorboard:
        require_tensorboard()
    store = open_for_training(Path(prepared))
    rows = training_rows(recipe, store, kind)
    size = batch_size(recipe, kind, len(rows))
    torch.manual_seed(recipe.pretrain_seed)
    encoder = build_encoder(recipe.model.backbone, store.images.shape[1])
    origin = load_start(encoder, "imagenet" if recipe.pretrain.method == "imagenet" else recipe.pretrain.start)
    fabric = make_fabric(recipe.compute, encoder)
    lay_out(encoder)
    probe = Probe(store, fabric)
    extra: dict[str, torch.Tensor] = {}
    told: dict[str, Any] = {}
    if kind is None:
        state = _measure_only(recipe, fabric.to_device(encoder), origin, probe)
    else:
        torch.manual_seed(mixed_seed(recipe.pretrain_seed, 1))
        method = kind.build(encoder, options, make_facts(recipe, store, len(rows), size))
        held = method.keep_statistics(recipe.pretrain.batch_norm)
        work = Work(recipe, method, store, rows, size, origin, out)
        train_preliminary(work, fabric)
        with Watch(work, probe, fabric) as watch:
            state = train(work, watch, fabric)
            watch.finish()
        encoder, extra, told = method.handed_on, method.handover(), describe(method)
        told |= {"batch_norm": "frozen" if held else "train", "batch_size": size}
    if fabric.is_global_zero:
        save_encoder(out / ENCODER, encoder, {"method": recipe.pretrain.method, "origin": origin}, extra)
        told |= {"origin": origin, "precision": precision_name(fabric), "probe": {"k": probe.k}}
        write_summary(out, recipe, state, told | {"seconds": round(time.monotonic() - started, 1)})
        remove_checkpoints(out / CHECKPOINT)
        remove_checkpoints(out / PRELIMINARY)
    fabric.barrier()


def choose(recipe: Recipe) -> tuple[type[Method] | None, Settings]:
    """The recipe's method (None where nothing is trained) and its validated options.

    Raises:
        UserError: an unknown method or a wrong option.
    """
    name = recipe.pretrain.method
    if name not in METHODS:
        accepted = f"accepted: {', '.join(METHODS)}{nearest(name, METHODS)}"
        raise UserError(f"{recipe.name}: pretrain.method: '{name}' is unknown; {accepted}")
    path = METHODS[name][0]
    module: Any = import_module(path) if path else None
    kind = module.Options if module else Settings
    options = validate(kind, recipe.pretrain.options, recipe.name, "pretrain.options")
    return (module.METHOD if module else None), options


def training_rows(recipe: Recipe, store: Store, kind: type[Method] | None) -> Rows:
    """Rows to train on: those of the train split, good ones alone where the method asks for that.

    Raises:
        UserError: fewer than two.
    """
    rows = store.rows("train")
    if kind is None:
        return rows
    if kind.good_only:
        rows = rows[store.labels[rows] == 0]
    what = "good training images" if kind.good_only else "training images"
    if len(rows) < 2:
        raise UserError(f"pretrain: {recipe.pretrain.method} needs at least 2 {what}, the prepared set has {len(rows)}")
    return rows


def batch_size(recipe: Recipe, kind: type[Method] | None, images: int) -> int:
    """Images per step: as the recipe asks, or what is usual with so many training images.

    Raises:
        UserError: it does not fit the images, the method or the devices.
    """
    asked, devices = recipe.pretrain.batch_size, recipe.compute.devices
    if kind is None:
        return asked or USUAL_BATCH
    what, least = "good training images" if kind.good_only else "training images", kind.least_batch * devices
    size = asked or max(least, usual_batch(images) // devices * devices)
    if size > images:
        raise UserError(f"pretrain.batch_size: {size} is more than the {images} {what}; take {images} or less")
    if size < least:
        raise UserError(f"pretrain.batch_size: {recipe.pretrain.method} needs at least {least}, got {size}")
    if size % devices:
        raise UserError(f"pretrain.batch_size: must be a multiple of compute.devices ({devices})")
    if not asked and size < USUAL_BATCH:
        say(f"pretrain: batches of {size}, for there are {images} {what}")
    return size


def usual_batch(images: int) -> int:
    """64; of fewer images the largest power of two that makes two steps of them, 2 at least."""
    return USUAL_BATCH if images >= USUAL_BATCH else max(2, 1 << (max(1, images // 2).bit_length() - 1))


def make_facts(recipe: Recipe, store: Store, images: int, size: int) -> Facts:
    """What the method may know of the run, with `size` images per step."""
    return Facts(
        channels=store.images.shape[3],
        images=images,
        image_size=store.images.shape[1],
        batch_size=size,
        epochs=recipe.pretrain.epochs,
        steps_per_epoch=max(1, images // size),
        sample=_sample(store) if store.images.shape[3] > 1 else None,
    )


def _sample(store: Store, most: int = 32) -> torch.Tensor:
    """At most so many training pictures, evenly chosen."""
    rows = store.rows("train")
    chosen = rows[:: max(1, -(-len(rows) // most))]
    return torch.from_numpy(store.images[chosen]).permute(0, 3, 1, 2)


def _measure_only(recipe: Recipe, encoder: Any, origin: str, probe: Probe) -> dict[str, Any]:
    measured = probe.measure(encoder)
    say(f"pretrain: {recipe.pretrain.method}, nothing to train ({origin}); probe {shown(measured['auroc'])}")
    return {"before": measured, "after": measured, "rows": []}
