"""What a recipe may say of recovery."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from runtimes.spec import Strict


class RecoverOptions(Strict):
    """Options of the pass `recover`: the eager original teaches the changed model, without labels."""

    distill: Literal["logits", "features", "both", "batchnorm"] = Field(
        "logits",
        description="What is taught. logits: the outputs; features: the outputs of inner layers whose shapes are "
        "still the same (where none is, the outputs); both: those and the outputs; batchnorm: nothing, only "
        "BatchNorm's statistics are found anew (they always are).",
    )
    epochs: PositiveInt = Field(30, description="At most so many times through the data.")
    minutes: PositiveFloat = Field(
        5.0, description="At most so long; the learning rate has come to nought by then."
    )
    rate: PositiveFloat = Field(
        2e-3, description="The highest learning rate, after a warm-up; then a cosine falls."
    )
    batch: PositiveInt = Field(128, description="Samples per step.")
    holdout: float = Field(0.1, gt=0, lt=0.5, description="Share of the samples that only tell when to stop.")
    patience: PositiveInt = Field(8, description="Epochs without a better state before it stops.")
    augment: tuple[Literal["flip", "mix"], ...] = Field(
        (), description="flip: pictures from left to right; mix: each sample blended with another."
    )
    aware: bool = Field(
        False, description="The model learns with weights and activations rounded to int8, as `quantize` will do."
    )
    iterative: PositiveInt = Field(1, description="Prune and recover in so many steps, each a part of the way.")
    seed: NonNegativeInt = Field(0, description="Seed of the order of samples, the split and the augmentation.")

    @property
    def varies(self) -> str | None:
        """Why recovering again may give other weights, or None: statistics are found from the samples alone."""
        return None if self.distill == "batchnorm" else "recover trained for a time, not for a number of steps"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"distill": value} if isinstance(value, str) else value
