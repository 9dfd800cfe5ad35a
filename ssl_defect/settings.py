"""Every setting of a recipe, once: typed, frozen, validated, with its unit and default.

What only one source, method or task knows stands under that section's `options` and is declared beside the code that
uses it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
    test_share: float = Field(0.35, gt=0, lt=0.9, description="Share of the images for test; unused with `folds`.")
    folds: int = Field(
        0, ge=0, le=1000, description="Divide the images into so many folds, of which one is the test split; 0: none."
    )
    fold: int = Field(0, ge=0, description="Which fold is the test split, from 0.")
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
        if not self.folds and self.val_share + self.test_share >= 0.95:
            raise ValueError("val_share + test_share must stay below 0.95, or nothing is left to train on")
        if self.folds > 1 and self.val_share + 1 / self.folds >= 0.95:
            raise ValueError("val_share + 1 / folds must stay below 0.95, or nothing is left to train on")
        return self

    @model_validator(mode="after")
    def _folds_fit(self) -> DataSettings:
        if self.folds == 1:
            raise ValueError("folds must be at least 2, or 0 for a single split")
        if self.folds and self.protocol == "official":
            raise ValueError("folds divide the images anew, so protocol must be supervised")
        if self.fold >= max(1, self.folds):
            raise ValueError(f"fold must be below folds ({self.folds}), got {self.fold}")
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
    batch_size: int | None = Field(None, ge=2, description="Images per step of all processes; left out: 64, or fewer.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.05, ge=0, description="Decoupled weight decay; none on biases and norms.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the rate rises linearly.")
    clip_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this global norm.")
    batch_norm: Literal["auto", "train", "frozen"] = Field(
        "auto", description="The encoder's statistics: `frozen`, gathered anew, or frozen if it was trained."
    )
    keep_every: int = Field(0, ge=0, description="Keep an encoder file every so many epochs; 0 keeps the last only.")
    probe_every: int = Field(1, ge=1, description="Epochs between two probes.")
    snapshots: int = Field(6, ge=0, le=24, description="Snapshots of the embedding over the epochs; 0 takes none.")
    tensorboard: bool = Field(False, description="Write TensorBoard events too; needs `ssl-defect[tensorboard]`.")
    options: dict[str, Any] = Field(default_factory=dict, description="Settings of the method.")


class FinetuneSettings(Settings):
    """finetune: encoder and labels to a detector."""

    task: str = Field("classification", description="`ssl-defect tasks` lists the names.")
    labels_per_class: int | None = Field(
        None, ge=1, description="Labelled training images per class; all where left out. Budgets are nested."
    )
    steps: int = Field(400, ge=1, description="Optimizer steps at most.")
    batch_size: int = Field(32, ge=2, description="Images per step, over all processes.")
    encoder: Literal["full", "frozen", "linear_probe", "gradual"] = Field(
        "full", description="What of it learns: all, nothing, nothing under a linear layer, or from the last layer on."
    )
    unfreeze: float = Field(0.5, gt=0, le=1, description="`gradual`: share of the steps until every layer learns.")
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = Field("adamw", description="How a gradient moves weights.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of `sgd`.")
    nesterov: bool = Field(False, description="Nesterov's momentum, for `sgd`.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of head and decoder.")
    encoder_learning_rate: float = Field(3e-4, ge=0, description="Peak learning rate of the encoder; 0 freezes it.")
    layer_decay: float = Field(1.0, gt=0, le=1, description="Each encoder layer has the rate of that above times this.")
    schedule: Literal["cosine", "one_cycle", "step", "constant", "plateau"] = Field(
        "cosine", description="The rate over the steps; `plateau` lowers it where validation no longer improves."
    )
    milestones: list[float] = Field(
        [0.5, 0.75], description="`step`: shares of the steps after which the rate is lowered, rising, in (0, 1)."
    )
    drop_factor: float = Field(0.1, gt=0, lt=1, description="What `step` and `plateau` multiply the rate by.")
    plateau_patience: int = Field(2, ge=1, description="`plateau`: looks without improvement until the rate falls.")
    ema: float = Field(
        0.0, ge=0, lt=1, description="Decay of the moving average of the weights that is validated and kept; 0: none."
    )
    weight_decay: float = Field(
        0.01, ge=0, description="Weight decay, decoupled in `adamw`, L2 in the others; none on biases and norms."
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the rate rises linearly.")
    clip_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this global norm.")
    eval_every: int = Field(25, ge=1, description="Steps between two looks at the validation images.")
    patience: int = Field(6, ge=1, description="Stop after so many looks without improvement.")
    sampling: Literal["balanced", "defects", "uniform"] = Field(
        "balanced",
        description="`balanced`: the task's classes equally often; `defects`: half good, and in the other half each "
        "kind of defect equally often; `uniform`: as they come.",
    )
    batch_norm: Literal["auto", "train", "frozen"] = Field(
        "auto",
        description="BatchNorm of the encoder: `frozen` keeps its statistics, `train` learns them anew; `auto` freezes "
        "those of a pretrained encoder.",
    )
    teacher: str = Field(
        "", description="Distillation: the folder of a finished run, or a detector's file, of the same task."
    )
    distillation: float = Field(1.0, ge=0, le=100, description="Weight of the distance from the teacher in the loss.")
    temperature: float = Field(2.0, gt=0, le=20, description="Softens teacher and student: doubts count more.")
    options: dict[str, Any] = Field(default_factory=dict, description="Settings of the task.")

    @model_validator(mode="after")
    def _fit_together(self) -> FinetuneSettings:
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError("nesterov needs optimizer sgd and a momentum above 0")
        if self.encoder == "gradual" and self.encoder_learning_rate == 0:
            raise ValueError("encoder gradual needs an encoder_learning_rate above 0; or set encoder to frozen")
        still = self.encoder in {"frozen", "linear_probe"} or self.encoder_learning_rate == 0
        if still and self.batch_norm == "train":
            raise ValueError("batch_norm train needs an encoder that learns; set it to auto or frozen")
        if sorted({share for share in self.milestones if 0 < share < 1}) != self.milestones:
            raise ValueError(f"milestones must rise and lie between 0 and 1, got {self.milestones}")
        return self


class AnomalySettings(Settings):
    """anomaly: an encoder and good images alone to a detector; it stands where `finetune` would, or beside it."""

    detector: str = Field("patchcore", description="`ssl-defect detectors` lists the names.")
    options: dict[str, Any] = Field(default_factory=dict, description="Settings of the detector.")


class EvaluateSettings(Settings):
    """evaluate: metrics on the test images, with intervals."""

    bootstrap: int = Field(1000, ge=100, description="Bootstrap draws over groups for the bands of the curves.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of the intervals.")
    threshold: Literal["auto", "f1", "quantile"] = Field(
        "auto",
        description="Rule on validation: largest F1, or a quantile of the good; `auto`: F1 if there are defects.",
    )
    quantile: float = Field(
        0.95, gt=0.5, lt=1, description="Of the good validation scores; new good parts exceed it with 1 - quantile."
    )
    aupro_limit: float = Field(0.3, gt=0, le=1, description="AUPRO integrates up to this false-positive rate.")
    embeddings: bool = Field(True, description="PCA, t-SNE and UMAP of the test images, before and after fine-tuning.")
    gradcam: int = Field(12, ge=0, le=200, description="Number of test images that get a Grad-CAM.")


class ReportSettings(Settings):
    """report: the page."""

    title: str = Field("", description="Title of the page; the recipe's name where left out.")
    pictures: int = Field(24, ge=0, le=500, description="Number of mistakes shown with overlays.")
    gallery: Literal["auto", "page", "folder", "none"] = Field(
        "auto",
        description="Where the pictures of all test images lie: in the page (`page`), in files beside it (`folder`), "
        "nowhere (`none`: no gallery), or in the page up to 1,000 of them (`auto`).",
    )


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
    anomaly: AnomalySettings | None = None
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()
    compute: ComputeSettings = ComputeSettings()

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, raw: Any) -> Any:
        """`finetune: null` takes the section out again, so that `anomaly` stands in its place."""
        if isinstance(raw, dict) and raw.get("finetune", raw) is None:
            return {key: value for key, value in raw.items() if key != "finetune"}
        return raw

    @property
    def beside(self) -> bool:
        """Whether both a detector from labels and one from good images alone are asked for."""
        return self.anomaly is not None and "finetune" in self.model_fields_set

    @property
    def pretrain_seed(self) -> int:
        """Seed of pretraining: fixed in a table, so that its seeds share one pretraining."""
        return self.seed if self.pretrain.seed is None else self.pretrain.seed
