"""The one kind of error that a user can mend: a single clear line, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What was wrong, what is accepted, what to do: one line, printed without a traceback."""


def nearest(name: str, accepted: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the accepted name closest to `name`, or an empty string."""
    found = difflib.get_close_matches(name, list(accepted), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""
