"""The walk through folders of pictures, links included, and the word on what it passes over. Nothing is decoded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ssl_defect import console

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# Endings of pictures, or of masks, that are not read: whoever has such files misses them.
UNREAD = {".heic", ".heif", ".avif", ".gif", ".apng", ".jp2", ".j2k", ".jpx", ".jxl", ".jpe", ".jfif", ".svg", ".pdf"}
UNREAD |= {".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".rw2", ".orf", ".raf", ".psd", ".tga", ".exr", ".hdr"}
UNREAD |= {".pbm", ".pnm", ".dcm", ".npy"}
TEXTS = {".txt", ".md", ".csv", ".json", ".yaml", ".yml", ".xml", ".ini", ".db"}  # a broken link to one is no loss

_said: set[tuple[str, str]] = set()  # `run` lists its pictures twice, for the digest and to prepare them


@dataclass
class Passed:
    """What a walk passes over, and its user may not expect."""

    unread: set[Path] = field(default_factory=set)
    broken: set[Path] = field(default_factory=set)
    circles: set[Path] = field(default_factory=set)
    closed: set[Path] = field(default_factory=set)

    def add(self, other: Passed) -> None:
        """Take over what another walk passed over."""
        self.unread |= other.unread
        self.broken |= other.broken
        self.circles |= other.circles
        self.closed |= other.closed

    def say(self, root: Path) -> None:
        """One line of each kind that was met, with the number and the first one."""
        kinds = Counter(path.suffix.lower() for path in self.unread)
        endings = ", ".join(f"{ending} {count}" for ending, count in sorted(kinds.items()))
        self._tell(root, self.unread, f"files not listed as pictures ({endings})", "convert them to .png")
        self._tell(root, self.broken, "broken links passed over", "mend or remove them")
        self._tell(root, self.circles, "links passed over", "they lead to a folder above, or to one already read")
        self._tell(root, self.closed, "folders passed over", "they cannot be read; check their permissions")

    @staticmethod
    def _tell(root: Path, paths: set[Path], what: str, more: str) -> None:
        if paths:
            first = min(paths)
            name = first.relative_to(root) if first.is_relative_to(root) else first
            say_once(root, f"{root}: {len(paths)} {what}, such as {name.as_posix()}; {more}")


@dataclass
class Inside:
    """What lies in one folder: files, and folders apart from links to folders."""

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)


def say_once(root: Path, line: str) -> None:
    """Say a line about a folder, unless this process has said it before."""
    key = (os.path.abspath(root), line)
    if key not in _said:
        _said.add(key)
        console.say(line)


def pictures_below(folder: Path, deep: bool, passed: Passed) -> list[Path]:
    """Visible files with the name of a picture, by path; with `deep` those of all sub-folders too, also linked ones.

    A folder is read once, whatever leads to it: under its own path where the walk comes to it without a link, else
    under the first link to it.
    """
    if not deep:
        return sorted(look(folder, passed).files)
    seen: set[str] = set()
    found: list[Path] = []
    starts = [folder]
    while starts:
        links: list[Path] = []
        for start in starts:
            if os.path.realpath(start) in seen:
                passed.circles.add(start)
            _walk(start, seen, found, links, passed)
        starts = sorted(without_circles(links, folder, passed))
    return sorted(found)


def _walk(start: Path, seen: set[str], found: list[Path], links: list[Path], passed: Passed) -> None:
    """Add the files below `start`, and the links to folders that are met but not followed."""
    waiting = [start]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real not in seen:
            seen.add(real)
            inside = look(here, passed)
            found += inside.files
            links += inside.links
            waiting += inside.folders


def look(folder: Path, passed: Passed) -> Inside:
    """What is visible in one folder. What cannot be taken goes into `passed`."""
    inside = Inside()
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        passed.closed.add(folder)
        return inside
    for entry in visible:
        ending = os.path.splitext(entry.name)[1].lower()
        if entry.is_symlink() and not os.path.exists(entry.path):
            passed.broken |= set() if ending in TEXTS else {folder / entry.name}
        elif entry.is_dir():
            (inside.links if entry.is_symlink() else inside.folders).append(folder / entry.name)
        elif ending in EXTENSIONS and entry.is_file():
            inside.files.append(folder / entry.name)
        elif ending in UNREAD:
            passed.unread.add(folder / entry.name)
    return inside


def without_circles(links: Iterable[Path], folder: Path, passed: Passed) -> list[Path]:
    """The links but for those that would lead a walk from `folder` around."""
    kept = [link for link in links if not _leads_up(link, folder)]
    passed.circles |= set(links) - set(kept)
    return kept


def _leads_up(link: Path, folder: Path) -> bool:
    """Whether a link leads to a folder that holds the link, or that holds `folder`, from which the walk set out."""
    target = os.path.realpath(link)
    return any(Path(os.path.realpath(place)).is_relative_to(target) for place in (link.parent, folder))
