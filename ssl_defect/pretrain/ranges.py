"""Settings that are a range, drawn from between its ends: one rule and one message for all of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def rising(most: float, least: float = 0.0) -> AfterValidator:
    """A pair that rises, or is the same number twice, within [`least`, `most`]; a `least` of 0 is itself left out.

    Areas, sides and changes of 0 are nothing to draw, and most of them are drawn by their logarithm.
    """
    accepted = f"from {least:.2g} to {most:.2g}" if least else f"above 0 and at most {most:.2g}"

    def check(value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not (low > 0 and least <= low <= high <= most):
            raise ValueError(f"give two rising numbers, or one twice, {accepted}")
        return value

    return AfterValidator(check)


Shares = Annotated[tuple[float, float], rising(most=1)]
