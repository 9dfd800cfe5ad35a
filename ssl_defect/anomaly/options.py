"""Settings of the detectors that know good parts alone."""

from __future__ import annotations

from pydantic import Field, field_validator

from ssl_defect.config import Settings


class Options(Settings):
    """What the detectors are built from; each uses those of its kind."""

    strides: tuple[int, ...] = Field(
        (8, 16), min_length=1, description="Maps of the encoder, by stride: patchcore, padim. Of a ViT the middle two."
    )
    share: float = Field(0.1, gt=0, le=1, description="Share of the patches that the memory keeps: patchcore.")
    neighbours: int = Field(
        9, ge=1, le=1000, description="Neighbours that weigh an image's score (patchcore), or are its score (knn)."
    )
    dimensions: int = Field(100, ge=1, le=2048, description="Channels, drawn at random, that are kept: padim.")
    quantile: float = Field(
        0.99,
        gt=0.5,
        lt=1,
        description="Of the distances of good validation images: it becomes a score of 0.5, and about 1 - quantile of "
        "the good parts score higher.",
    )

    @field_validator("strides")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if sorted(set(value)) != list(value) or value[0] < 1:
            raise ValueError("strides must rise")
        return value
