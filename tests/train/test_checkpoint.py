"""Checkpoints: what is read back, and what happens to damaged ones."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ssl_defect.train.checkpoint import load_checkpoint, previous, remove_checkpoints, save_checkpoint


def test_what_is_saved_is_read_back_and_the_one_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    assert load_checkpoint(path) is None
    for step in (1, 2):
        save_checkpoint(path, {"step": step, "x": torch.arange(3), "state": {"rows": [{"probe": None, "loss": 0.5}]}})
    content = load_checkpoint(path)
    assert content is not None
    assert content["step"] == 2
    assert content["state"] == {"rows": [{"probe": None, "loss": 0.5}]}
    assert torch.load(previous(path), weights_only=True)["step"] == 1
    remove_checkpoints(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_one_is_set_aside_and_the_one_before_is_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.pt"
    for step in (1, 2):
        save_checkpoint(path, {"step": step, "x": torch.rand(1000)})
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes({"cut": bytes(raw[: len(raw) // 2]), "flip": bytes(raw), "empty": b""}[damage])
    content = load_checkpoint(path)
    assert content is not None
    assert content["step"] == 1
    assert (tmp_path / "c.pt.damaged").exists()
    assert "set aside as c.pt.damaged" in capsys.readouterr().err


def test_killed_between_the_two_renames_the_one_before_is_used(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"step": 1})
    path.replace(previous(path))
    content = load_checkpoint(path)
    assert content is not None
    assert content["step"] == 1


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow past 100 kB, which a full disk looks like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_on_a_full_disk_the_last_checkpoint_stays(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"step": 1})
    with pytest.raises(OSError, match="too large"):
        save_checkpoint(path, {"step": 2, "x": torch.rand(100_000)})
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
    content = load_checkpoint(path)
    assert content is not None
    assert content["step"] == 1


class Payload:
    """What a pickle could carry."""


def test_code_is_never_unpickled(tmp_path: Path) -> None:
    torch.save({"step": 1, "x": Payload()}, tmp_path / "c.pt")
    assert load_checkpoint(tmp_path / "c.pt") is None
