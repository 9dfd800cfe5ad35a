"""Options that every method refuses: ranges that fall or leave their bounds, and an average that never moves."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ssl_defect import cli
from ssl_defect.config import Settings, validate
from ssl_defect.errors import UserError
from ssl_defect.pretrain import METHODS

KINDS: dict[str, type[Settings]] = {
    name: import_module(module).Options for name, (module, _) in METHODS.items() if module
}
RANGES = [
    (method, name)
    for method, kind in KINDS.items()
    for name, field in kind.model_fields.items()
    if field.annotation == tuple[float, float]
]
SHARES = [(method, name) for method, name in RANGES if name in {"crop", "local_crop"}]
AVERAGED = [method for method, kind in KINDS.items() if "momentum" in kind.model_fields]
SHARES_ACCEPTED = "give two rising numbers, or one twice, above 0 and at most 1"


def refusal(method: str, **options: Any) -> str:
    """The one line that the options are refused with."""
    with pytest.raises(UserError) as raised:
        validate(KINDS[method], options, "recipe", "pretrain.options")
    line = str(raised.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("method", KINDS)
def test_its_defaults_are_accepted_when_written_out(method: str) -> None:
    defaults = KINDS[method]()
    assert validate(KINDS[method], defaults.model_dump(), "recipe") == defaults


def test_the_ranges_of_all_methods_are_found() -> None:
    assert {method for method, _ in SHARES} == set(KINDS)
    others = {("cutpaste", "area"), ("defect_seg", "area"), ("defect_seg", "difference")}
    assert set(RANGES) - set(SHARES) == others | {("nsa", "sides"), ("nsa", "resize")}


# the first falls within the bounds of every range, the others leave those of each
@pytest.mark.parametrize("value", [[0.3, 0.28], [0, 0], [0, 0.3], [-1, 0.3], [0.3, 9], [float("nan"), 0.3]], ids=str)
@pytest.mark.parametrize(("method", "name"), RANGES)
def test_a_range_that_falls_or_leaves_its_bounds_is_refused(method: str, name: str, value: list[float]) -> None:
    assert refusal(method, **{name: value}).startswith(f"recipe: pretrain.options.{name}")


@pytest.mark.parametrize("value", [[0.9, 0.2], [-1, 5], [2, 3], [0, 0]], ids=str)
@pytest.mark.parametrize(("method", "name"), SHARES)
def test_a_share_that_is_none_is_refused_with_what_is_accepted(method: str, name: str, value: list[float]) -> None:
    line = refusal(method, **{name: value})
    assert line == f"recipe: pretrain.options.{name}: {SHARES_ACCEPTED}, got {value}"


@pytest.mark.parametrize(("method", "name"), SHARES)
def test_the_bounds_of_a_share_are_accepted(method: str, name: str) -> None:
    for value in ([1, 1], [0.01, 1], [0.3, 0.3]):
        assert list(getattr(validate(KINDS[method], {name: value}, "recipe"), name)) == value


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("cutpaste", "area", (0.1, 0.3)),
        ("defect_seg", "area", (0.0001, 0.5)),
        ("defect_seg", "difference", (0.5, 0.5)),
        ("nsa", "sides", (0.01, 0.6)),
        ("nsa", "resize", (0.25, 4.0)),
    ],
)
def test_other_ranges_reach_their_own_bounds(method: str, name: str, value: tuple[float, float]) -> None:
    assert getattr(validate(KINDS[method], {name: value}, "recipe"), name) == value


def test_a_range_with_a_least_says_so() -> None:
    accepted = "give two rising numbers, or one twice, from 0.25 to 4"
    assert refusal("nsa", resize=[0.1, 1.0]) == f"recipe: pretrain.options.resize: {accepted}, got [0.1, 1.0]"


def test_the_methods_with_an_average_are_found() -> None:
    assert set(AVERAGED) == {"byol", "densecl", "dino", "moco_v2", "moco_v3"}


@pytest.mark.parametrize("method", AVERAGED)
def test_an_average_that_never_moves_is_refused(method: str) -> None:
    line = refusal(method, momentum=1.0)
    assert line == "recipe: pretrain.options.momentum: input should be less than 1, got 1.0"
    validate(KINDS[method], {"momentum": 0.9999}, "recipe")


@pytest.mark.parametrize("value", [[0, 0.04], [0.03, 0], [-0.1, 0.04]], ids=str)
def test_a_teacher_without_a_temperature_is_refused(value: list[float]) -> None:
    place = 0 if value[0] <= 0 else 1
    key = f"pretrain.options.teacher_temperature.{place}"
    expected = f"recipe: {key}: input should be greater than 0, got {value[place]}"
    assert refusal("dino", teacher_temperature=value) == expected


def test_a_teacher_may_cool_down() -> None:
    found: Any = validate(KINDS["dino"], {"teacher_temperature": [0.06, 0.04]}, "recipe")
    assert found.teacher_temperature == (0.06, 0.04)


def test_the_command_line_says_it_in_one_line_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "small.yaml", tmp_path / "run"
    recipe.write_text("name: small\ndata: {source: folder, root: parts}\npretrain: {method: byol}\n", encoding="utf-8")
    wrong = "pretrain.options.crop=[0.9, 0.2]"
    monkeypatch.setattr(sys, "argv", ["ssl-defect", "run", str(recipe), "--out", str(out), "--set", wrong])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: small: pretrain.options.crop: {SHARES_ACCEPTED}, got [0.9, 0.2]\n"
    assert not out.exists()
