"""What all pages are rendered with: everything is escaped, and a name that is not there is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(folders: Sequence[Path], **filters: Callable[..., Any]) -> Environment:
    """Templates of these folders, the first that has one, with filters by name."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(filters)
    return made
