"""Recipes of tables: a base recipe, a matrix of settings, and how the results are set out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from ssl_defect.config import Settings, key_and_value, put, read_yaml, validate
from ssl_defect.errors import UserError, nearest

IMAGE = ("auroc", "ap", "f1", "precision", "recall", "accuracy")
PIXEL = ("auroc", "ap", "aupro", "iou", "dice")
TABLE = "a table is a mapping (name, base, matrix, ...); see experiments/tables/"
VALIDATION = "validation"  # what fine-tuning chose its step by: for choosing settings with the test labels closed
METRICS = (*(f"image {name}" for name in IMAGE), *(f"pixel {name}" for name in PIXEL), VALIDATION)


class PublishedValue(Settings):
    """One figure of a paper."""

    at: dict[str, Any] = Field(description="Axis to value: the cells that it stands beside; a value that no cell has "
                               "makes a row of its own.")  # fmt: skip
    value: float = Field(description="The figure, in the unit of its source.")
    error: float | None = Field(None, ge=0, description="What the source gives behind the ±; the note says what it is.")


class Published(Settings):
    """Figures of one source for one metric."""

    source: str = Field(min_length=1, description="Citation: authors, venue, arXiv number, table.")
    note: str = Field("", description="In what the source's protocol differs from the table's.")
    metric: str = Field(description="The table's metric that they stand beside.")
    unit: Literal["percent", "share"] = Field("percent", description="Of the source's figures.")
    values: list[PublishedValue] = Field(min_length=1, description="The figures.")


class TableSettings(Settings):
    """A table: which runs, and how their results are set out."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name of the table's folder.")
    description: str = Field("", description="What the table is for, in a sentence.")
    base: str | dict[str, Any] = Field(description="Path of a recipe, seen from the table's file; or a recipe.")
    roots: dict[str, str] = Field(
        default_factory=dict, description="Name to folder: `{name}` in a setting stands for the folder."
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of every run: `pretrain.epochs: 30`.")
    matrix: dict[str, Any] = Field(
        description="A setting to its values, or a name to named groups of settings; each is an axis of the table."
    )
    include: list[dict[str, Any]] = Field(
        default_factory=list,
        description="More cells: axis to value (a list: each; left out: every value of it); new values take what "
        "they set from the entry's `settings`.",
    )
    exclude: list[dict[str, Any]] = Field(
        default_factory=list, description="Cells to leave out: axis to value (or a list); others are any."
    )
    seeds: list[int] | int = Field(3, description="Seeds of initialisation, order and choice of labels; or how many.")
    folds: int = Field(
        0, ge=0, le=1000, description="Divide the pictures into so many folds and test on each in turn; 0: one split."
    )
    pretrain_seed: int | Literal["run"] = Field(
        0, description="Seed of every pretraining, so that seeds share it; `run`: each seed pretrains its own."
    )
    baseline: dict[str, Any] = Field(
        default_factory=dict, description="Axis to value: every cell is compared with the one that has these instead."
    )
    average: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="Axis to two or more of its values: the mean over them as one more value of the axis, with a "
        "difference of its own.",
    )
    sets: str = Field("", description="The axis that tells sets of pictures apart, for Friedman's test.")
    metrics: list[str] = Field(
        ["image auroc"], min_length=1, description=f"{', '.join(METRICS)}; or `task NAME` for one of the task."
    )
    rows: list[str] = Field(default_factory=list, description="Axes down the side; those not in `columns`.")
    columns: list[str] = Field(
        default_factory=list, description="Axes along the top, a table per metric; none: the metrics."
    )
    unit: Literal["share", "percent"] = Field("share", description="How metrics are shown.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Of intervals; 1 less it is the level of the tests.")
    html: bool = Field(True, description="Write the HTML comparison of all runs too.")
    published: list[Published] = Field(default_factory=list, description="Figures of papers, shown beside ours.")

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: list[int] | int) -> list[int] | int:
        if value == [] or (isinstance(value, int) and value < 1):
            raise ValueError("give at least one seed")
        if isinstance(value, list) and (len(set(value)) != len(value) or min(value) < 0):
            raise ValueError("seeds must differ and not be negative")
        return value

    @field_validator("folds")
    @classmethod
    def _folds_divide(cls, value: int) -> int:
        if value == 1:
            raise ValueError("give at least 2 folds, or 0 for the one split that `data` asks for")
        return value

    @field_validator("matrix")
    @classmethod
    def _matrix_holds_axes(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise ValueError("the matrix is empty; give it a setting and its values")
        for key, values in value.items():
            if not isinstance(values, list | dict) or not values:
                raise ValueError(f"'{key}' needs a list of values, or names with their settings")
            if isinstance(values, dict):
                wrong = [name for name, group in values.items() if not _is_settings(group)]
                if wrong:
                    raise ValueError(f"'{key}.{wrong[0]}' must be settings, such as {{pretrain.method: none}}")
        return value

    @field_validator("average")
    @classmethod
    def _averages_are_of_several(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for axis, values in value.items():
            if len({str(one) for one in values}) < max(2, len(values)):
                raise ValueError(f"'{axis}' needs two or more different values, such as [5, 10]")
        return value

    @field_validator("metrics")
    @classmethod
    def _metrics_are_known(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("a metric is named twice, and would be corrected for twice")
        for name in value:
            if name not in METRICS and not name.startswith("task "):
                raise ValueError(
                    f"'{name}' is unknown; accepted: {', '.join(METRICS)}, task NAME{nearest(name, METRICS)}"
                )
        return value

    @property
    def last_stage(self) -> str:
        """Of the runs: a table of validation alone never opens the test labels."""
        return "finetune" if set(self.metrics) == {VALIDATION} else "evaluate"

    @property
    def seed_list(self) -> list[int]:
        """The seeds, in order."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else sorted(self.seeds)


def _is_settings(group: Any) -> bool:
    """Nothing, or settings by their dotted names."""
    return group is None or (isinstance(group, dict) and all(isinstance(key, str) for key in group))


def load_table(path: Path, overrides: list[str] | None = None) -> tuple[TableSettings, dict[str, Any]]:
    """Read a table's recipe; the settings of it, and those of its runs that `overrides` asks for.

    `seeds=1` and other keys of the table change the table; all others, such as `data.root=PLACE`, every run.

    Raises:
        UserError: the file cannot be read, or holds a wrong key or value.
    """
    raw = read_yaml(path, TABLE, "experiments/tables/")
    for_runs: dict[str, Any] = {}
    for text in overrides or []:
        key, value = key_and_value(text)
        if key in {"name", "description"}:
            raise UserError(f"--set {text}: runs are named by the matrix; for another folder of the table give --out")
        if key.split(".")[0] in TableSettings.model_fields:
            put(raw, key, value, f"--set {text}")
        else:
            for_runs[key] = value
    table = validate(TableSettings, raw, str(path))
    _fit_together(table, path)
    return table.model_copy(update={"settings": table.settings | for_runs}), for_runs  # the protocol tells of both


def _fit_together(table: TableSettings, path: Path) -> None:
    axes = list(table.matrix)
    asked = {
        "rows": table.rows,
        "columns": table.columns,
        "sets": [table.sets] if table.sets else [],
        "baseline": list(table.baseline),
        "average": list(table.average),
    }
    asked |= {f"exclude.{i}": list(entry) for i, entry in enumerate(table.exclude)}
    asked |= {f"include.{i}": [key for key in entry if key != "settings"] for i, entry in enumerate(table.include)}
    for i, block in enumerate(table.published):
        asked |= {f"published.{i}.values.{j}.at": list(value.at) for j, value in enumerate(block.values)}
        if block.metric not in table.metrics:
            raise UserError(
                f"{path}: published.{i}.metric: '{block.metric}' is none of the metrics {', '.join(table.metrics)}"
            )
    for where, names in asked.items():
        for name in names:
            if name not in axes:
                accepted = f"accepted: {', '.join(axes)}{nearest(name, axes)}"
                raise UserError(f"{path}: {where}: '{name}' is no axis of the matrix; {accepted}")
    if own := sorted(set(table.average) & set(table.baseline)):
        raise UserError(
            f"{path}: average: '{own[0]}' is an axis of the baseline; a mean over it has nothing to be compared with"
        )
    both = set(table.rows) & set(table.columns)
    if both:
        raise UserError(f"{path}: '{min(both)}' is among the rows and among the columns; take it out of one")
