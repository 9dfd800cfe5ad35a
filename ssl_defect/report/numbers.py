"""How figures are written on the page, and the hook by which a test finds each of them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

Entry = Mapping[str, Any]  # {"value", "low", "high"[, "why"]} as in metrics.json
ABSENT = "–"


def shown(value: float | None, digits: int = 3) -> str:
    """`value` with so many decimals, or a dash where it is undefined."""
    return ABSENT if value is None else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """A share in [0, 1] in percent; a decimal only where rounding would otherwise claim none or all."""
    if value is None:
        return ABSENT
    percent = 100 * value
    if 0 < percent < 0.1:
        return f"{percent:.1g}%"
    if 0 < percent < 1:
        return f"{percent:.1f}%"
    return f"{min(percent, 99.9):.1f}%" if 99 < percent < 100 else f"{percent:.0f}%"


def rate(value: float | None) -> str:
    """A rate such as false alarms per 100: whole from ten up, one decimal below."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if value >= 9.95 or value == 0 else f"{value:.1f}"


def counted(number: int, one: str, many: str = "") -> str:
    """`'1 image'`, `'1,234 images'`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: list[str], limit: int = 6) -> str:
    """`'a, b and c'`; the rest of a long list is only counted."""
    if len(names) > limit:
        names = [*names[:limit], f"{len(names) - limit} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def hooked(path: str, value: float | None, text: str) -> Markup:
    """`text`, marked with the place of the exact figure in metrics.json, so that a test can compare the two."""
    exact = "" if value is None else repr(value)
    return Markup('<span data-test-figure="{}" data-test-exact="{}">{}</span>').format(path, exact, text)


def hook(path: str, value: float | None) -> dict[str, str]:
    """The marks of `hooked` as attributes for `svg.tag`, for what is drawn; none without a path."""
    return {"data_test_figure": path, "data_test_exact": "" if value is None else repr(value)} if path else {}


def whole(path: str, number: int) -> Markup:
    """A number of things, hooked."""
    return hooked(path, number, f"{number:,}")


def part(above: str, below: str, value: float, per: int = 0) -> Markup:
    """A share, or so many `per` hundred or thousand, hooked to the quotient of two figures of metrics.json.

    Args:
        above, below: places such as "image.confusion.tp", or sums "a + b" of them.
        value: the share itself, in [0, 1].
    """
    path = f"{above} / {below}"
    return hooked(f"{per} * {path}", per * value, rate(per * value)) if per else hooked(path, value, share(value))


def interval(path: str, entry: Entry, digits: int = 3, as_share: bool = False) -> Markup:
    """`low to high` of a metric, hooked; empty where it is undefined."""
    if entry.get("low") is None or entry.get("high") is None:
        return Markup("")
    texts = [share(entry[end]) if as_share else shown(entry[end], digits) for end in ("low", "high")]
    low, high = (hooked(f"{path}.{end}", entry[end], text) for end, text in zip(("low", "high"), texts, strict=True))
    return Markup("{} to {}").format(low, high)


def metric(path: str, entry: Entry | None, digits: int = 3) -> Markup:
    """A table cell: the value, its interval in smaller type, or a dash that says why there is none."""
    if entry is None:
        return Markup("{}").format(ABSENT)
    if entry.get("value") is None:
        return Markup('<span class="absent" title="{}">{}</span>').format(entry.get("why", "undefined"), ABSENT)
    value = hooked(f"{path}.value", entry["value"], shown(entry["value"], digits))
    return Markup('{} <span class="interval">{}</span>').format(value, interval(path, entry, digits))
