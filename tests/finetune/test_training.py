"""Optimizers, schedules, averaging and sampling in the whole stage."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trying import State, equal, run

from ssl_defect.config import Recipe, validate
from ssl_defect.errors import UserError
from ssl_defect.finetune import training
from ssl_defect.finetune.classification import Classification
from ssl_defect.finetune.task import Validation
from ssl_defect.nets.detector import load_detector
from ssl_defect.train.batches import Batches

Make = Callable[..., Any]


def history(out: Path) -> list[dict[str, float]]:
    with (out / "history.csv").open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def script(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Looks that see these values in turn, and the last one from then on."""
    looks = iter(values)
    scripted = lambda self, batches: Validation("AUROC", next(looks, values[-1]), 1.0)  # noqa: E731
    monkeypatch.setattr(Classification, "validation", scripted)


ODD: dict[str, dict[str, Any]] = {
    "averaged": {"ema": 0.9},
    "plateau": {"schedule": "plateau", "plateau_patience": 1, "patience": 99, "drop_factor": 0.5},
    "all at once": {
        "ema": 0.9,
        "schedule": "plateau",
        "plateau_patience": 1,
        "encoder": "gradual",
        "layer_decay": 0.8,
        "optimizer": "sgd",
        "nesterov": True,
        "sampling": "defects",
    },
}


class KilledError(Exception):
    pass


@pytest.mark.parametrize("name", ODD)
def test_a_killed_run_ends_with_the_same_weights(
    name: str, make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(steps=18, eval_every=3, labels_per_class=5, **ODD[name])
    values = [0.5, 0.4, 0.45, 0.6, 0.3, 0.2]
    script(monkeypatch, *values)
    expected = run(case, tmp_path / "whole")
    plan, take = training.Plan, training.Looks.take
    monkeypatch.setattr(training, "Plan", lambda *args, **kwargs: plan(*args, **kwargs, save_every=0.0))

    def kill(self: training.Looks, interval: Any, rate: float) -> None:
        if interval.step == 12:
            raise KilledError
        take(self, interval, rate)

    with monkeypatch.context() as patch:
        script(patch, *values)
        patch.setattr(training.Looks, "take", kill)
        with pytest.raises(KilledError):
            run(case, tmp_path / "killed")
    script(monkeypatch, *values[3:])
    assert equal(run(case, tmp_path / "killed"), expected)
    last = [load_file(tmp_path / folder / "last.safetensors") for folder in ("whole", "killed")]
    assert equal(*last)
    assert (tmp_path / "whole" / "history.csv").read_bytes() == (tmp_path / "killed" / "history.csv").read_bytes()


def test_the_average_is_validated_and_kept(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[State]
) -> None:
    looked: list[State] = []

    def look(self: Classification, batches: object) -> Validation:
        looked.append({name: value.clone() for name, value in self.detector.state_dict().items()})
        assert not self.detector.training
        return Validation("AUROC", len(looked) / 10, 1.0)

    monkeypatch.setattr(Classification, "validation", look)
    case = make_case(steps=6, eval_every=2, ema=0.9, optimizer="sgd", encoder_learning_rate=0.5, warmup=0.0)
    start = load_file(case.pretrained / "encoder.safetensors")
    kept = run(case, tmp_path)
    name, average = "encoder.body.conv1.0.weight", start["encoder.conv1.0.weight"]
    for step, raw in enumerate(steps):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * raw[name]
    torch.testing.assert_close(kept[name], average, atol=1e-6, rtol=0)
    assert not torch.equal(kept[name], steps[-1][name])
    assert equal(kept, looked[-1])
    assert equal(kept, load_file(tmp_path / "last.safetensors"))
    means = [name for name in kept if "running_mean" in name]
    assert means
    assert all(torch.equal(kept[name], steps[-1][name]) for name in means)


def test_without_an_average_nothing_is_copied(make_case: Make, tmp_path: Path, steps: list[State]) -> None:
    run(make_case(steps=4, eval_every=2), tmp_path)
    assert equal(load_file(tmp_path / "last.safetensors"), steps[-1])
    assert load_detector(tmp_path / "last.safetensors").spec.task == "classification"


def test_the_last_is_kept_beside_the_best(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[State]
) -> None:
    script(monkeypatch, 0.5, 0.9, 0.4, 0.3)
    best = run(make_case(steps=99, eval_every=2, patience=2), tmp_path)
    assert equal(best, steps[3])
    assert len(steps) == 8
    assert equal(load_file(tmp_path / "last.safetensors"), steps[-1])


def test_plateau_lowers_the_rate(make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, 0.5, 0.6, 0.1, 0.1, 0.1, 0.7, 0.1)
    settings = {"schedule": "plateau", "plateau_patience": 2, "drop_factor": 0.5, "warmup": 0.0}
    run(make_case(steps=14, eval_every=2, learning_rate=0.008, patience=9, **settings), tmp_path)
    assert [row["learning_rate"] for row in history(tmp_path)] == [0.008] * 4 + [0.004] * 3


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"schedule": "step", "milestones": [0.25, 0.5]}, [0.01, 0.001, 0.0001, 0.0001]),
        ({"schedule": "constant"}, [0.01] * 4),
        ({"schedule": "one_cycle"}, [0.01 * (4e-6 + 0.5 * (1 - 4e-6) * (1 + c)) for c in (0.92388, 0.38268)]),
    ],
)
def test_the_schedule_is_followed(settings: dict, rates: list[float], make_case: Make, tmp_path: Path) -> None:
    run(make_case(steps=8, eval_every=2, learning_rate=0.01, warmup=0.0, **settings), tmp_path)
    found = [row["learning_rate"] for row in history(tmp_path)]
    assert found[: len(rates)] == pytest.approx(rates, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop"])
def test_every_optimizer_learns(optimizer: str, make_case: Make, tmp_path: Path) -> None:
    rate = {"sgd": 0.05, "rmsprop": 1e-3}.get(optimizer, 5e-3)
    rates = {"learning_rate": rate, "encoder_learning_rate": rate}
    run(make_case(kinds=("good", "spot"), steps=40, eval_every=10, optimizer=optimizer, **rates), tmp_path)
    losses = [row["loss"] for row in history(tmp_path)]
    assert losses[-1] < 0.9 * losses[0]


def test_sampling_by_kind_of_defect(make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, rows = make_case(steps=6, eval_every=3, batch_size=8, sampling="defects"), []
    gather = Batches.gather
    monkeypatch.setattr(Batches, "gather", lambda self, chosen: rows.append(chosen) or gather(self, chosen))
    run(case, tmp_path)
    batches = [[case.store.defects[row] for row in chosen] for chosen in rows if len(chosen) == 8]
    assert len(batches) >= 6
    assert all(Counter(batch) == {"good": 4, "scratch": 2, "spot": 2} for batch in batches)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamx"}, r"'adamw', 'adam', 'sgd' or 'rmsprop', got 'adamx'; did you mean 'adam"),
        ({"schedule": "onecycle"}, "did you mean 'one_cycle'"),
        ({"encoder": "froze"}, "did you mean 'frozen'"),
        ({"sampling": "defect"}, "did you mean 'defects'"),
        ({"ema": 1.0}, "less than 1"),
        ({"layer_decay": 0.0}, "greater than 0"),
        ({"layer_decay": 1.5}, "less than or equal to 1"),
        ({"momentum": 1.0}, "less than 1"),
        ({"nesterov": True}, "nesterov needs optimizer sgd"),
        ({"nesterov": True, "optimizer": "sgd", "momentum": 0}, "momentum above 0"),
        ({"encoder": "gradual", "encoder_learning_rate": 0}, "encoder_learning_rate above 0"),
        ({"encoder": "frozen", "batch_norm": "train"}, "batch_norm train needs an encoder that learns"),
        ({"encoder": "linear_probe", "batch_norm": "train"}, "set it to auto or frozen"),
        ({"encoder_learning_rate": 0, "batch_norm": "train"}, "batch_norm train needs"),
        ({"milestones": [0.75, 0.5]}, "milestones must rise"),
        ({"milestones": [0.5, 1.0]}, "between 0 and 1"),
        ({"plateau_patience": 0}, "greater than or equal to 1"),
        ({"drop_factor": 1.0}, "less than 1"),
        ({"unfreeze": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(settings: dict, message: str) -> None:
    raw = {"name": "x", "data": {"source": "s", "root": "r"}, "finetune": settings}
    with pytest.raises(UserError, match=message) as error:
        validate(Recipe, raw, "x.yaml")
    assert "\n" not in str(error.value)
    assert "finetune" in str(error.value)
