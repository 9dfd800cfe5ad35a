"""Digests of the bytes of many files, and a memory of them, so that a table does not read its pictures for every run.

Only a table asks for the memory: a file in its folder, which its processes find through an environment variable. An
entry counts while size, inode and the times of change of content and of status are what they were. The last cannot be
set by a program, so a file that was replaced with its old date is seen. A file that was changed within two seconds of
being read is read again, since a clock that ticks slowly could hide another change ("racy git", the documentation of
git's index). Decay of a disk, which changes no time, is seen only once the memory is deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ssl_defect.artifacts import write_json

MEMORY = "SSL_DEFECT_DIGESTS"  # environment variable: the memory's file
SETTLED = 2e9  # nanoseconds
Entry = list[int | str]  # size, inode, two times in nanoseconds, digest


@contextmanager
def remembering(path: Path) -> Iterator[None]:
    """Within the block, and in processes that it starts, digests are kept in `path` where its folder is there."""
    before = os.environ.get(MEMORY)
    os.environ[MEMORY] = str(path.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[MEMORY]
        else:
            os.environ[MEMORY] = before


def bytes_digests(paths: Sequence[Path], threads: int = 0) -> list[str]:
    """SHA-256 (hex) of each file's bytes; `unreadable: ...` for one that cannot be read.

    Args:
        threads: 0 takes one per core.
    """
    place = os.environ.get(MEMORY, "") if os.name == "posix" else ""  # Windows tells no time of a change of status
    memory = _recall(Path(place)) if place else {}
    learned: dict[str, Entry] = {}

    def one(path: Path) -> str:
        try:
            stat = path.stat()
            marks: Entry = [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]
            known = memory.get(str(path.absolute()), [])
            if known[:-1] == marks:
                return str(known[-1])
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"unreadable: {error.strerror}"
        if place and time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED:
            learned[str(path.absolute())] = [*marks, found]
        return found

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        digests = list(pool.map(one, paths))
    if learned:
        _keep(Path(place), memory | learned)
    return digests


def _recall(path: Path) -> dict[str, Entry]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: the files are read
        return {}
    return {key: entry for key, entry in found.items() if isinstance(entry, list)} if isinstance(found, dict) else {}


def _keep(path: Path, memory: dict[str, Entry]) -> None:
    """Written whole, so that of two processes that learn at once the later wins and nothing is half there."""
    if path.parent.is_dir():
        try:
            write_json(path, memory)
        except OSError:
            return  # a memory that cannot be kept costs time, nothing else
