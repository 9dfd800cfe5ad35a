"""Digests of files and the memory of them: what changed is read again, whatever its date says."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from ssl_defect.data import contents
from ssl_defect.data.contents import MEMORY, bytes_digests, remembering


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "pictures" / f"{i}.bin" for i in range(3)]
    paths[0].parent.mkdir()
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * 100)
    return paths


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read."""
    seen: list[str] = []
    real = hashlib.file_digest
    monkeypatch.setattr(
        contents.hashlib, "file_digest", lambda file, name: seen.append(Path(file.name).name) or real(file, name)
    )
    return seen


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the files had lain there for an hour."""
    real = time.time_ns
    monkeypatch.setattr(contents.time, "time_ns", lambda: real() + 3600 * 10**9)


def test_without_a_memory_every_file_is_read_each_time(files: list[Path], read: list[str]) -> None:
    wanted = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert bytes_digests(files) == bytes_digests(files, 1) == wanted
    assert len(read) == 6
    assert bytes_digests([files[0].parent / "none.bin"]) == ["unreadable: No such file or directory"]


@pytest.mark.skipif(os.name != "posix", reason="Windows tells no time of a change of status: nothing is remembered")
def test_a_file_is_read_once_until_it_changes(
    files: list[Path], read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    with remembering(tmp_path / "memory.json"):
        first = bytes_digests(files)
        assert bytes_digests(files) == first
        assert sorted(read) == ["0.bin", "1.bin", "2.bin"]
        old = files[1].stat()
        files[1].write_bytes(b"\xff" * 100)  # as many bytes, and the old date
        os.utime(files[1], ns=(old.st_atime_ns, old.st_mtime_ns))
        again = bytes_digests(files)
    assert read[3:] == ["1.bin"]
    assert again == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert MEMORY not in os.environ


def test_what_was_changed_a_moment_ago_is_not_remembered(files: list[Path], read: list[str], tmp_path: Path) -> None:
    with remembering(tmp_path / "memory.json"):
        bytes_digests(files)
        bytes_digests(files)
    assert len(read) == 6
    assert not (tmp_path / "memory.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"x": 1})])
def test_a_damaged_memory_or_one_that_cannot_be_kept_is_no_fault(
    files: list[Path], tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    wanted = bytes_digests(files)
    (tmp_path / "memory.json").write_text(text)
    with remembering(tmp_path / "memory.json"):
        assert bytes_digests(files) == wanted
    with remembering(tmp_path / "nowhere" / "memory.json"):
        assert bytes_digests(files) == wanted
    assert not (tmp_path / "nowhere").exists()
