"""Recipes: what is read, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ssl_defect.config import Recipe, dump_yaml, load_recipe
from ssl_defect.errors import UserError
from ssl_defect.fingerprints import options

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
RECIPES = sorted(EXPERIMENTS.glob("*.yaml"))
MINIMAL = {"name": "x", "data": {"source": "synthetic", "root": "somewhere"}}


def write(folder: Path, raw: object) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_ours_is_short_and_valid(path: Path) -> None:
    recipe = load_recipe(path)
    options(recipe)
    assert recipe.data.root
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40


def test_the_promised_recipes_are_there() -> None:
    assert {"quickstart", "synthetic", "magnetic_tile", "mvtec"} <= {path.stem for path in RECIPES}


def test_a_dumped_recipe_reads_back_equal(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL), ["pretrain.epochs=7"])
    assert load_recipe(write(tmp_path, dump_yaml(recipe))) == recipe


def test_overrides_are_read_as_yaml(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL), ["finetune.labels_per_class=null", "pretrain.options={a: 1}"])
    assert recipe.finetune.labels_per_class is None
    assert recipe.pretrain.options == {"a": 1}


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("pretrain", "epoch", 5, ["pretrain.epoch:", "unknown key", "did you mean 'epochs'?"]),
        ("pretrain", "epochs", "many", ["pretrain.epochs:", "valid integer", "'many'"]),
        ("pretrain", "epochs", 0, ["pretrain.epochs:", "greater than or equal to 1", "got 0"]),
        ("data", "split", "grup", ["data.split:", "'group' or 'random'", "did you mean 'group'?"]),
        ("pretrain", "learning_rate", float("nan"), ["pretrain.learning_rate:", "finite"]),
    ],
)
def test_a_wrong_setting_is_one_line(
    tmp_path: Path, section: str, key: str, value: object, expected: list[str]
) -> None:
    raw = {**MINIMAL, section: {**MINIMAL.get(section, {}), key: value}}  # type: ignore[dict-item]
    path = write(tmp_path, raw)
    with pytest.raises(UserError) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)
    for part in [str(path), *expected]:
        assert part in str(error.value)


def test_an_unknown_key_of_an_optional_section_lists_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"anomaly\.detectr: unknown key; accepted: detector, options; did you mean"):
        load_recipe(write(tmp_path, MINIMAL), ["anomaly.detectr=knn"])


def test_an_empty_section_can_be_set(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, {**MINIMAL, "finetune": None}), ["finetune.steps=5"])
    assert recipe.finetune.steps == 5


def test_a_mistake_between_two_settings_does_not_repeat_the_section(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finetune: .*got \[0\.9, 0\.1\]$"):
        load_recipe(write(tmp_path, MINIMAL), ["finetune.milestones=[0.9, 0.1]"])


def test_a_day_that_there_is_not_is_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the value is not valid YAML; put it in quotes"):
        load_recipe(write(tmp_path, MINIMAL), ["report.title=2024-13-45"])
    with pytest.raises(UserError, match="not valid YAML"):
        load_recipe(write(tmp_path, "name: 2024-13-45\n"))


@pytest.mark.parametrize(
    ("section", "key", "name", "expected"),
    [
        ("data", "source", "magnetic_tiles", "did you mean 'magnetic_tile'?"),
        ("pretrain", "method", "simclrr", "did you mean 'simclr'?"),
        ("finetune", "task", "segment", "did you mean 'segmentation'?"),
    ],
)
def test_an_unknown_name_lists_what_is_accepted(section: str, key: str, name: str, expected: str) -> None:
    raw = {**MINIMAL, section: {**MINIMAL.get(section, {}), key: name}}  # type: ignore[dict-item]
    with pytest.raises(UserError, match="accepted: ") as error:
        options(Recipe.model_validate(raw))
    assert f"{section}.{key}" in str(error.value)
    assert expected in str(error.value)


def test_a_wrong_option_of_a_method_names_its_path() -> None:
    raw = {**MINIMAL, "pretrain": {"method": "simclr", "options": {"temprature": 0.1}}}
    with pytest.raises(UserError, match=r"pretrain\.options\.temprature: .*did you mean 'temperature'"):
        options(Recipe.model_validate(raw))


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words", ""])
def test_what_is_no_recipe_is_said_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"recipe\.yaml"):
        load_recipe(write(tmp_path, text))


def test_a_missing_recipe_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize("override", ["epochs", "=3", "name.x=1", "pretrain.epochs=[1"])
def test_a_wrong_override_is_one_line(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match="--set"):
        load_recipe(write(tmp_path, MINIMAL), [override])
