"""TensorBoard's events: those of history.csv, no step twice after a kill, one clear line without the package."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from striped_parts import make_recipe
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_defect.artifacts import Record, damage, read_record, write_record
from ssl_defect.errors import UserError
from ssl_defect.pretrain import tensorboard, training
from ssl_defect.pretrain.stage import pretrain
from ssl_defect.pretrain.watch import Watch


def events(out: Path) -> Any:
    found = EventAccumulator(str(out / tensorboard.FOLDER))
    found.Reload()
    return found


def history(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same(out: Path, epochs: int) -> None:
    """Every cell of history.csv is an event, and every event a cell."""
    found, rows = events(out), history(out)
    named = {tag.partition("/")[2]: tag for tag in found.Tags()["scalars"]}
    assert set(named) == set(rows[0]) - {"epoch"}
    for name, tag in named.items():
        there = [(event.step, event.value) for event in found.Scalars(tag)]
        assert [step for step, _ in there] == [int(row["epoch"]) for row in rows if row[name]]
        assert [value for _, value in there] == pytest.approx([float(row[name]) for row in rows if row[name]], rel=1e-5)
    assert len(rows) == epochs


def test_every_epoch_is_there_with_the_pictures_before_and_after(prepared: Path, tmp_path: Path) -> None:
    pretrain(make_recipe("mae", "test_vit", epochs=3, tensorboard=True), prepared, tmp_path)
    assert_same(tmp_path, 3)
    found = events(tmp_path)
    (tag,) = found.Tags()["images"]
    assert tag == "picture, seen by the encoder, rebuilt"
    assert [(image.step, image.height, image.width) for image in found.Images(tag)] == [(0, 192, 96), (3, 192, 96)]


def test_a_killed_run_goes_on_with_no_step_twice(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after epoch 3 was said and before it was saved: epoch 3 is made, and written, once more."""
    make_plan, epoch = training.make_plan, Watch.epoch
    monkeypatch.setattr(training, "make_plan", lambda *given: replace(make_plan(*given), save_every=0))

    def killed(self: Watch, interval: Any, number: int, rate: float) -> None:
        epoch(self, interval, number, rate)
        if number == 3:
            raise KeyboardInterrupt

    recipe = make_recipe("simclr", "test_resnet", epochs=5, tensorboard=True)
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            pretrain(recipe, prepared, tmp_path)
    assert [event.step for event in events(tmp_path).Scalars("loss/loss")] == [1, 2, 3]
    pretrain(recipe, prepared, tmp_path)
    assert len(list((tmp_path / tensorboard.FOLDER).iterdir())) == 2
    assert_same(tmp_path, 5)


def test_a_finished_stage_with_events_is_whole_and_stays_so(prepared: Path, tmp_path: Path) -> None:
    pretrain(make_recipe("simclr", "test_resnet", epochs=1, tensorboard=True), prepared, tmp_path)
    write_record(tmp_path, Record("pretrain", "f", {}, {}, "c", 1.0, 1.0, "now", "run"))
    record = read_record(tmp_path)
    assert record is not None
    assert any(name.startswith(f"{tensorboard.FOLDER}/events") for name in record.outputs)
    events(tmp_path)
    assert damage(tmp_path, record) == ""


def test_events_change_nothing_else(prepared: Path, tmp_path: Path) -> None:
    for name, wanted in (("with", True), ("without", False)):
        pretrain(make_recipe("simclr", "test_resnet", epochs=2, tensorboard=wanted), prepared, tmp_path / name)
    for name in ("encoder.safetensors", "pictures.npz", "snapshots.npz"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    assert not (tmp_path / "without" / tensorboard.FOLDER).exists()


def test_without_the_package_nothing_begins(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"tensorboard is not installed; `pip install 'ssl-defect\[tensorboard\]'`"):
        pretrain(make_recipe("simclr", "test_resnet", tensorboard=True), prepared, tmp_path)
    assert list(tmp_path.iterdir()) == []
    pretrain(make_recipe("simclr", "test_resnet", epochs=1), prepared, tmp_path)
