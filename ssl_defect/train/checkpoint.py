"""Checkpoints of a running loop: written atomically, read without unpickling code, the one before kept in reserve."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from ssl_defect import console
from ssl_defect.artifacts import atomic

BROKEN = (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile)


def previous(path: Path) -> Path:
    """Where the checkpoint before the last is kept."""
    return path.with_name(f"{path.name}.previous")


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts; the checkpoint that stood there becomes the previous one.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    buffer = io.BytesIO()  # torch's own writer hides a full disk behind an error of another kind
    torch.save(content, buffer)
    with atomic(path) as temporary:
        # not `getbuffer`: Python 3.12.1 crashed where a full disk left such a view in the frames of the error
        temporary.write_bytes(buffer.getvalue())
        if path.exists():
            path.replace(previous(path))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The last checkpoint that can be read, or None where there is none.

    A damaged file is set aside as `NAME.damaged`, said, and the previous one is tried.
    """
    for file in (path, previous(path)):
        if not file.exists():
            continue
        try:
            return _read(file)
        except BROKEN:
            aside = path.with_name(f"{path.name}.damaged")
            file.replace(aside)
            console.say(f"{file.name} is damaged: set aside as {aside.name}, going on from the one before it")
    return None


def _read(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:  # torch does not compare the checksums that it writes
        bad = archive.testzip()
    if bad is not None:
        raise ValueError(f"{bad} does not match its checksum")
    content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return content


def remove_checkpoints(path: Path) -> None:
    """Delete the last checkpoint, the previous one, a damaged one, and what killed writes left in their folder."""
    damaged = path.with_name(f"{path.name}.damaged")
    for file in (path, previous(path), damaged, *path.parent.glob(".*.tmp")):
        file.unlink(missing_ok=True)
