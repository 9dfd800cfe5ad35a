"""What the scripts of cells take: methods by name, anything else refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import cells

KNOWN = ["simclr", "mae"]


@pytest.mark.parametrize(
    ("asked", "chosen"), [("", KNOWN), ("mae", ["mae"]), ("mae, simclr,", ["mae", "simclr"]), (" , ", KNOWN)]
)
def test_methods_are_those_named_or_all(asked: str, chosen: list[str]) -> None:
    options = cells.parser("", "x").parse_args(["--methods", asked])
    assert cells.chosen_methods(options, KNOWN) == chosen


def test_a_method_that_is_not_known_is_one_line() -> None:
    options = cells.parser("", "x").parse_args(["--methods", "mae,none,simlcr"])
    with pytest.raises(SystemExit) as end:
        cells.chosen_methods(options, KNOWN)
    assert end.value.code == "--methods: none, simlcr is not among simclr, mae"  # printed, and exit status 1
