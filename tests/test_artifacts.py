"""Atomic writing, records, and the version of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_defect import artifacts
from ssl_defect.errors import UserError


def record(**changes: object) -> artifacts.Record:
    values = {
        "stage": "prepare",
        "fingerprint": "f",
        "settings": {},
        "inputs": {},
        "code": "c",
        "seconds": 1.0,
        "peak_memory_mb": 1.0,
        "created": "2026-01-01",
        "command": "x",
    }
    return artifacts.Record(**{**values, **changes})  # type: ignore[arg-type]


def finished(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    artifacts.write_record(folder, record())
    return folder


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_half_way() -> None:
        with artifacts.atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        artifacts.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_missing_json_are_said_so(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        artifacts.read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="missing"):
        artifacts.read_json(tmp_path / "b.json")


def test_a_record_reads_back_and_finds_damage(tmp_path: Path) -> None:
    folder = finished(tmp_path / "prepare")
    found = artifacts.read_record(folder)
    assert found is not None
    assert artifacts.damage(folder, found) == ""
    (folder / "a.txt").write_text("two")
    assert artifacts.damage(folder, found) == "a.txt"
    (folder / "a.txt").unlink()
    assert artifacts.damage(folder, found) == "a.txt"


def test_no_record_no_stage(tmp_path: Path) -> None:
    assert artifacts.read_record(tmp_path) is None
    (tmp_path / "record.json").write_text('{"stage": "prepare"}')
    assert artifacts.read_record(tmp_path) is None


def test_taking_over_keeps_both_alive(tmp_path: Path) -> None:
    source = finished(tmp_path / "one" / "prepare")
    target = tmp_path / "two" / "prepare"
    artifacts.take_over(source, target)
    (source / "a.txt").unlink()
    assert (target / "a.txt").read_text() == "one"
    assert artifacts.read_record(target) is not None


def test_publishing_replaces_the_old_stage_whole(tmp_path: Path) -> None:
    old = finished(tmp_path / "prepare")
    (old / "b.txt").write_text("left over")
    partial = tmp_path / "prepare.partial"
    partial.mkdir()
    (partial / "a.txt").write_text("new")
    artifacts.publish(partial, old)
    assert [path.name for path in old.iterdir()] == ["a.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["prepare"]


def test_code_version_follows_imports_but_not_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ssl_defect_fake"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "top.py").write_text("from ssl_defect_fake import low\n\n\ndef f():\n    'Say.'\n    return low.X\n")
    (package / "low.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(artifacts, "__name__", "ssl_defect_fake.artifacts")

    def version() -> str:
        artifacts.code_version.cache_clear()
        artifacts._syntax.cache_clear()
        return artifacts.code_version("ssl_defect_fake.top")

    first = version()
    (package / "top.py").write_text(
        "# why\nfrom ssl_defect_fake import low\ndef f():\n    'Other.'\n    return low.X\n"
    )
    assert version() == first
    (package / "low.py").write_text("X = 2\n")
    assert version() != first
    artifacts.code_version.cache_clear()
    artifacts._syntax.cache_clear()


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert artifacts.digest({"a": 1, "b": 2}) == artifacts.digest({"b": 2, "a": 1})
    assert artifacts.digest({"a": 1}) != artifacts.digest({"a": 2})
