"""What tests of targets share: a task on a prepared set, and its predictions once it is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ssl_defect.data.records import write_samples
from ssl_defect.finetune.stage import find_task, finetune, labelled_rows, make_spec
from ssl_defect.finetune.start import build_detector
from ssl_defect.finetune.task import Task
from ssl_defect.nets.detector import load_detector
from ssl_defect.train.pairs import partner_rows

State = dict[str, Tensor]
RATES = {"learning_rate": 1e-2, "encoder_learning_rate": 1e-3}


def build(case) -> Task:
    kind, options = find_task(case.recipe)
    torch.manual_seed(0)
    detector, _ = build_detector(
        make_spec(case.recipe, case.store, kind, options), case.pretrained / "encoder.safetensors"
    )
    return kind(detector, options, case.store)


def usable(case) -> np.ndarray:
    kind, options = find_task(case.recipe)
    return kind.usable(case.store, labelled_rows(case.recipe, case.store), options)


def learn(case, out: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Fine-tune, and predict the test images."""
    finetune(case.recipe, case.prepared, case.pretrained, out)
    detector, store = load_detector(out / "model.safetensors"), case.store
    rows, read = store.rows("test"), lambda rows: torch.from_numpy(store.images[rows]).permute(0, 3, 1, 2).float() / 255
    x = read(rows)
    if detector.spec.options["pair"] == "group":
        x = torch.cat([x, read(partner_rows(store)[rows])], dim=1)
    return rows, {name: value.numpy() for name, value in detector.predict(x).items()}


def rewrite(case, change: Callable) -> None:
    """Change the samples of a prepared set; `change(row, sample)` gives the new one."""
    write_samples(case.prepared / "samples.csv", [change(i, s) for i, s in enumerate(case.store.samples)])


def run(case, out: Path) -> State:
    """Fine-tune, and the weights that were kept."""
    finetune(case.recipe, case.prepared, case.pretrained, out)
    return load_file(out / "model.safetensors")


def equal(one: State, two: State) -> bool:
    return set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)
