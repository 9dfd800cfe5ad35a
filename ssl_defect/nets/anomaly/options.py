"""Settings that the detectors of anomalies share; each detector adds its own beside its head."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from ssl_defect.settings import Settings


class Options(Settings):
    """What every detector takes."""

    quantile: float = Field(
        0.99,
        gt=0.5,
        lt=1,
        description="Of the distances of good validation images: it becomes a score of 0.5, and about 1 - quantile of "
        "the good parts score higher.",
    )
    calibration: Literal["quantile", "logistic"] = Field(
        "quantile",
        description="Of the scores: `logistic` makes them probabilities, by the defects among the validation images.",
    )
    images: int | None = Field(
        None,
        ge=1,
        description="Number of good training images to learn from, drawn by the seed, fewer among more; left out: all.",
    )
    clean: float = Field(
        0.0, ge=0, le=0.5, description="Share of the good training images, those most unlike the others, left out."
    )


class LevelOptions(Options):
    """Of those that look at maps of the encoder."""

    strides: tuple[int, ...] = Field(
        (8, 16), min_length=1, description="Maps of the encoder, by stride. Of a plain ViT the middle two."
    )

    @field_validator("strides")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if sorted(set(value)) != list(value) or value[0] < 1:
            raise ValueError("strides must rise")
        return value


class TrainedOptions(Settings):
    """Of those that learn in steps; joined with one of the above."""

    steps: int = Field(500, ge=1, description="Steps of training, on good images alone.")
    batch_size: int = Field(16, ge=1, description="Images per step.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Peak of a cosine, AdamW.")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="AdamW.")
