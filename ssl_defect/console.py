"""What a person sees while a stage works: one line per event, and a bar with the time left on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def say(message: str) -> None:
    """Print one line to standard error at once; standard output is kept for results."""
    print(message, file=sys.stderr, flush=True)


def minutes(seconds: float) -> str:
    """`'1:05'` for 65 seconds, `'2:03:04'` for two hours and more."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    if hours:
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{rest // 60}:{rest % 60:02d}"


def track(items: Iterable[T], total: int, what: str, every: float = 10.0) -> Iterator[T]:
    """Pass `items` through and show progress with the time left.

    A terminal gets a bar; anything else gets a line at most every `every` seconds, so that logs stay short.
    """
    if sys.stderr.isatty():
        yield from _bar(items, total, what)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown >= every and done < total:
            shown = now
            say(f"{what}: {done}/{total}, {minutes((now - start) / done * (total - done))} left")


def _bar(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    yield from rich_track(items, description=what, total=total, console=console, transient=True)
