"""The one kind of error that a user can mend: a single clear line, no traceback."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
REFUSED |= {errno.ENAMETOOLONG, errno.ELOOP}


class UserError(Exception):
    """What was wrong, what is accepted, what to do: one line, printed without a traceback."""


def nearest(name: str, accepted: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the accepted name closest to `name`, or an empty string."""
    found = difflib.get_close_matches(name, list(accepted), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


@contextmanager
def clear_system_errors(out: Path) -> Iterator[None]:
    """Turn the system's refusals (disk full, not writable) into one line; what is finished stays."""
    try:
        yield
    except OSError as error:
        where = error.filename or out
        if error.errno in FULL:
            todo = "free some and run the same command again; finished stages are kept"
            raise UserError(f"{where}: no space left ({error.strerror}); {todo}") from error
        if error.errno in REFUSED:
            todo = "give a folder that you may write with --out"
            raise UserError(f"{where}: cannot be written ({error.strerror}); {todo}") from error
        raise
