"""What a caller puts above the runs of a comparison: a table has its answers and itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Lead:
    """Heading, a sentence below it, anchors of the sections with their names, and the sections.

    With `answered` they say and draw which row is to be taken: the comparison below has no verdict of its own, which
    would be of each row by the test images, and not corrected for their number.
    """

    title: str
    description: str | Markup
    sections: Sequence[tuple[str, str]]
    html: Markup
    answered: bool = False
