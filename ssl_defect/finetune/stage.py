"""finetune: encoder and labels to a detector."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ssl_defect.artifacts import require, write_json
from ssl_defect.config import Recipe, validate
from ssl_defect.console import say
from ssl_defect.data.splits import label_budget
from ssl_defect.data.store import Store, open_for_training
from ssl_defect.errors import UserError, nearest
from ssl_defect.finetune import CLASSICAL, TASKS
from ssl_defect.finetune.distillation import load_teacher
from ssl_defect.finetune.sampling import Rows
from ssl_defect.finetune.start import build_detector, freeze
from ssl_defect.finetune.task import Task
from ssl_defect.finetune.training import CHECKPOINT, Work, train
from ssl_defect.finetune.views import Views
from ssl_defect.nets.detector import Spec
from ssl_defect.train.checkpoint import remove_checkpoints
from ssl_defect.train.device import lay_out, make_fabric, precision_name


def finetune(recipe: Recipe, prepared: Path, pretrained: Path, out: Path) -> None:
    """Train a detector on the labelled images; write the best by validation to `model.safetensors`.

    Goes on from the checkpoint of a killed run in `out`, and ends with the same weights. Also writes `history.csv`
    and `finetune.json`.

    Raises:
        UserError: an earlier stage is missing, the encoder is of another backbone, the task cannot learn from these
            labels, or training broke down.
    """
    if recipe.anomaly is not None:
        import_module("ssl_defect.anomaly.stage").anomaly(recipe, prepared, pretrained, out)
        return
    store = open_for_training(prepared)
    if recipe.finetune.task in CLASSICAL:
        import_module(CLASSICAL[recipe.finetune.task][0]).fit(recipe, store, labelled_rows(recipe, store), out)
        return
    check_batch_size(recipe)
    encoder_file = require(pretrained / "encoder.safetensors", "pretrain")
    kind, options = find_task(recipe)
    rows = kind.usable(store, labelled_rows(recipe, store), options)
    if not len(store.rows("val")):
        raise UserError("finetune: there are no validation images; raise data.val_share")
    torch.manual_seed(recipe.seed)
    detector, meta = build_detector(make_spec(recipe, store, kind, options), encoder_file)
    freeze(detector, recipe.finetune, trained=is_trained(meta))
    task = kind(detector, options, store)
    fabric = make_fabric(recipe.compute, lay_out(task))
    teacher = load_teacher(recipe.finetune, detector.spec)
    if teacher is not None:
        task.teacher = teacher.to(fabric.device)
    out.mkdir(parents=True, exist_ok=True)
    work = Work(recipe, store, task, rows, encoder_file, meta, out)
    state = train(work, fabric)
    if fabric.is_global_zero:
        write_json(out / "finetune.json", summary(work, state, fabric))
        remove_checkpoints(out / CHECKPOINT)


def check_batch_size(recipe: Recipe) -> None:
    """Refuse batches that the devices cannot share evenly.

    Raises:
        UserError: the batch size is no multiple of the devices.
    """
    devices = recipe.compute.devices
    if recipe.finetune.batch_size % devices:
        raise UserError(f"finetune.batch_size: must be a multiple of compute.devices ({devices})")


def find_task(recipe: Recipe) -> tuple[type[Task], Views]:
    """The task's class and its validated options.

    Raises:
        UserError: the task is unknown, or an option is wrong.
    """
    name = recipe.finetune.task
    if name not in TASKS:
        accepted = f"accepted: {', '.join(TASKS | CLASSICAL)}{nearest(name, TASKS | CLASSICAL)}"
        raise UserError(f"{recipe.name}: finetune.task: '{name}' is unknown; {accepted}")
    module = import_module(TASKS[name][0])
    options: Views = validate(module.Options, recipe.finetune.options, recipe.name, "finetune.options")
    kind: type[Task] = module.TASK
    return kind, options


def is_trained(meta: dict[str, str]) -> bool:
    """Whether an encoder file with this metadata holds weights that were trained, by us or by others."""
    return meta.get("method", "none") != "none" or not meta.get("origin", "random").startswith("random")


def labelled_rows(recipe: Recipe, store: Store) -> Rows:
    """Rows of the labelled training images; says which classes have fewer than `labels_per_class`."""
    k = recipe.finetune.labels_per_class
    rows = label_budget(store.samples, store.rows("train"), k, recipe.seed)
    found = Counter(store.defects[row] for row in rows)
    short = [f"{name} ({found[name]})" for name in store.classes if k is not None and found[name] < k]
    if short:
        say(f"finetune: fewer than {k} training images of {', '.join(short)}: all there are get used")
    return rows


def make_spec(recipe: Recipe, store: Store, kind: type[Task], options: Views) -> Spec:
    """What the detector is built from."""
    _, size, _, channels = store.images.shape
    return Spec(
        task=recipe.finetune.task,
        backbone=recipe.model.backbone,
        image_size=int(size),
        channels=int(channels),
        classes=kind.classes(store, options),
        options=options.model_dump(mode="json"),
        white=recipe.data.white,
    )


def summary(work: Work, state: dict[str, Any], fabric: Fabric) -> dict[str, Any]:
    """`finetune.json`: what was trained, on how many labels, how good on the validation images, and when it ended."""
    settings, best, used = work.recipe.finetune, state["best"], Counter(work.store.defects[row] for row in work.rows)
    return {
        "task": settings.task,
        "classes": work.task.detector.spec.classes,
        "labels": {name: used[name] for name in work.store.classes},
        "labels_per_class": settings.labels_per_class,
        "best_step": best["step"],
        "best_validation": best["value"],
        "validation_metric": best["metric"],
        "steps": state["history"][-1]["step"],
        "stopped_early": state["history"][-1]["step"] < settings.steps,
        "seconds": round(state["seconds"], 2),
        "precision": precision_name(fabric),
        "losses": work.task.losses | ({"distillation": settings.distillation} if work.task.teacher else {}),
        "teacher": settings.teacher,
        "batch_norm": work.task.detector.still,
        "origin": work.meta.get("origin", ""),
        "handed_over": work.meta.get("handed_over", ""),
        "left_behind": work.meta.get("left_behind", ""),
    }
