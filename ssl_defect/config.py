"""Every setting of a recipe, once: typed, frozen, validated, with its unit and default.

A recipe is a YAML file with one section per stage. What only one source, method or task knows stands under
that section's `options` and is declared beside the code that uses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssl_defect.errors import UserError, nearest

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: frozen, and a key that nobody declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(Settings):
    """prepare: where the pictures are, and how they are split."""

    source: str = Field(description="How the raw folder is laid out; `ssl-defect datasets` lists the names.")
    root: str = Field(description="Folder with the raw pictures; `package:NAME` for an installed Python package.")
    image_size: int = Field(128, ge=16, le=2048, description="Side of the square cached picture, in pixels.")
    protocol: Literal["supervised", "official"] = Field(
        "supervised",
        description="`supervised`: split anew by group; `official`: the split that the set was published with.",
    )
    split: Literal["group", "random"] = Field(
        "group", description="`group` keeps near-copies together; `random` is there to show what a leak is worth."
    )
    split_seed: int = Field(0, ge=0, description="Seed of the split alone; the recipe's seed never moves it.")
    val_share: float = Field(0.15, gt=0, lt=0.9, description="Share of the images for validation.")
    test_share: float = Field(0.35, gt=0, lt=0.9, description="Share of the images for test.")
    copies: bool = Field(True, description="Find near-copies and group them.")
    empty_masks: Literal["set_aside", "keep"] = Field(
        "set_aside", description="What happens to a defective image whose mask is empty."
    )
    mask_polarity: Literal["check", "white", "black"] = Field(
        "check",
        description="Which side of a mask is defective: white, with masks that look inverted set aside (`check`), or "
        "`white` or `black` without a look.",
    )
    white: int = Field(
        65535, ge=255, le=65535, description="Value of white in 16-bit pictures; 4095 for 12-bit cameras."
    )
    max_unusable: float = Field(
        0.05, ge=0, le=1, description="The run stops if more than this share of the images is unusable."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Settings of the source.")

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> DataSettings:
        if self.val_share + self.test_share >= 0.95:
            raise ValueError("val_share + test_share must stay below 0.95, or nothing is left to train on")
        return self


class ModelSettings(Settings):
    """The backbone that pretraining and fine-tuning share."""

    backbone: str = Field("resnet18", description="Any timm backbone that fits the method and the task.")


class PretrainSettings(Settings):
    """pretrain: how the encoder comes to its weights, without labels."""

    method: str = Field("simclr", description="`ssl-defect methods` lists the names.")
    start: str = Field("random", description="Weights to start from: `random`, `imagenet` or a file.")
    seed: int | None = Field(None, ge=0, description="Seed of pretraining; the recipe's where left out.")
    epochs: int = Field(100, ge=1, description="Passes over the training images.")
    batch_size: int = Field(64, ge=2, description="Images per step, over all processes.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.05, ge=0, description="Decoupled weight decay; none on biases and norms.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the rate rises linearly.")
    clip_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this global norm.")
    keep_every: int = Field(0, ge=0, description="Keep an encoder file every so many epochs; 0 keeps the last only.")
    probe_every: int = Field(1, ge=1, description="Epochs between two probes.")
    snapshots: int = Field(6, ge=0, le=24, description="Snapshots of the embedding over the epochs; 0 takes none.")
    tensorboard: bool = Field(False, description="Write TensorBoard events too; needs `ssl-defect[tensorboard]`.")
    options: dict[str, Any] = Field(default_factory=dict, description="Settings of the method.")


class FinetuneSettings(Settings):
    """finetune: encoder and labels to a detector."""

    task: str = Field("classification", description="`classification` or `segmentation`.")
    labels_per_class: int | None = Field(
        None, ge=1, description="Labelled training images per class; all where left out. Budgets are nested."
    )
    steps: int = Field(400, ge=1, description="Optimizer steps at most.")
    batch_size: int = Field(32, ge=2, description="Images per step, over all processes.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of head and decoder.")
    encoder_learning_rate: float = Field(3e-4, ge=0, description="Peak learning rate of the encoder; 0 freezes it.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay; none on biases and norms.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the rate rises linearly.")
    clip_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this global norm.")
    eval_every: int = Field(25, ge=1, description="Steps between two looks at the validation images.")
    patience: int = Field(6, ge=1, description="Stop after so many looks without improvement.")
    sampling: Literal["balanced", "uniform"] = Field(
        "balanced", description="`balanced`: the task's classes equally often in every batch; `uniform`: as they come."
    )
    batch_norm: Literal["auto", "train", "frozen"] = Field(
        "auto",
        description="BatchNorm of the encoder: `frozen` keeps its statistics, `train` learns them anew; `auto` freezes "
        "those of a pretrained encoder.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Settings of the task.")


class EvaluateSettings(Settings):
    """evaluate: metrics on the test images, with intervals."""

    bootstrap: int = Field(1000, ge=100, description="Bootstrap draws over groups for each interval.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of the intervals.")
    aupro_limit: float = Field(0.3, gt=0, le=1, description="AUPRO integrates up to this false-positive rate.")
    embeddings: bool = Field(True, description="PCA, t-SNE and UMAP of the test images.")
    gradcam: int = Field(12, ge=0, le=200, description="Number of test images that get a Grad-CAM.")


class ReportSettings(Settings):
    """report: the page."""

    title: str = Field("", description="Title of the page; the recipe's name where left out.")
    pictures: int = Field(24, ge=0, le=500, description="Number of mistakes shown with overlays.")


class ComputeSettings(Settings):
    """The machine: none of it but the precision changes what is computed."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    devices: int = Field(1, ge=1, description="Processes, one per device; more than one is started by torchrun.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="`auto` takes bfloat16 where the processor and the backbone gain by it."
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes every core.")


class Recipe(Settings):
    """One experiment: five stages, one folder of results."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name of the run's folder.")
    description: str = Field("", description="What the recipe is for, in a sentence.")
    seed: int = Field(0, ge=0, description="Seed of initialisation, order and choice of labels.")
    data: DataSettings
    model: ModelSettings = ModelSettings()
    pretrain: PretrainSettings = PretrainSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()
    compute: ComputeSettings = ComputeSettings()

    @property
    def pretrain_seed(self) -> int:
        """Seed of pretraining: fixed in a table, so that its seeds share one pretraining."""
        return self.seed if self.pretrain.seed is None else self.pretrain.seed


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read and validate a recipe; `overrides` are `section.key=value` strings, their values read as YAML.

    Raises:
        UserError: the file is missing, is no YAML mapping, or holds a wrong key or value.
    """
    file = Path(path)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot read the recipe ({error.strerror}); give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise UserError(f"{file}: not valid YAML{line}; see experiments/ for examples") from error
    if not isinstance(raw, dict):
        raise UserError(f"{file}: a recipe is a mapping of sections (name, data, model, pretrain, ...)")
    for override in overrides or []:
        _override(raw, override)
    return validate(Recipe, raw, str(file))


def _override(raw: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: expected section.key=value, for example pretrain.epochs=50")
    *sections, last = key.strip().split(".")
    target = raw
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise UserError(f"--set {text}: '{section}' is a value, not a section")
    try:
        target[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {text}: the value is not valid YAML; put it in quotes") from error


def validate(kind: type[S], raw: dict[str, Any], where: str, prefix: str = "") -> S:
    """Build settings of class `kind` from `raw`, or say in one line which key is wrong and what is accepted.

    Args:
        where: the file (or the option) that the error line begins with.
        prefix: dotted path of `raw` within that file, such as `pretrain.options`.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise UserError("; ".join(_lines(kind, error, where, prefix))) from error


def _lines(kind: type[Settings], error: ValidationError, where: str, prefix: str) -> list[str]:
    lines = []
    for item in error.errors()[:3]:
        path = [str(part) for part in item["loc"]]
        key = ".".join([*([prefix] if prefix else []), *path])
        if item["type"] == "extra_forbidden":
            fields = sorted(_section(kind, path[:-1]).model_fields)
            reason = f"unknown key; accepted: {', '.join(fields) or 'none'}{nearest(path[-1], fields)}"
        elif item["type"] == "missing":
            reason = "missing; give it a value"
        else:
            message = item["msg"].removeprefix("Value error, ")
            choice = nearest(str(item["input"]), _choices(item)) if item["type"] == "literal_error" else ""
            reason = f"{message[0].lower()}{message[1:]}, got {item['input']!r}{choice}" if path else message
        lines.append(f"{where}: {key or 'recipe'}: {reason}")
    return lines


def _choices(item: Any) -> list[str]:
    return [part.strip(" '") for part in item["ctx"]["expected"].replace(" or ", ", ").split(",")]


def _section(kind: type[Settings], path: list[str]) -> type[Settings]:
    for part in path:
        inner = kind.model_fields[part].annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            kind = inner
    return kind


def dump_yaml(recipe: Recipe) -> str:
    """The recipe with every default filled in, as YAML that `load_recipe` reads back to an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(), sort_keys=False, allow_unicode=True)
