"""The schema of the pass `recover`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from runtimes.spec import Strict


class RecoverOptions(Strict):
    """Options of the pass `recover`: distillation from the original model, without labels."""

    distill: Literal["logits", "features", "both", "batchnorm"] = Field(
        "logits",
        description="Distillation target. logits: the outputs; features: the outputs of inner "
        "layers whose shapes are unchanged (if there are none, the outputs); both: features and "
        "outputs; batchnorm: no training, only re-estimate BatchNorm statistics (always done).",
    )
    epochs: PositiveInt = Field(30, description="Maximum number of epochs.")
    minutes: PositiveFloat = Field(
        5.0, description="Time limit in minutes; the learning rate decays to zero by then."
    )
    rate: PositiveFloat = Field(
        2e-3,
        description="Maximum learning rate: reached after a warm-up, followed by a cosine decay.",
    )
    batch: PositiveInt = Field(128, description="Batch size of the training.")
    holdout: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Held-out set: share of the samples that are used for early stopping only.",
    )
    patience: PositiveInt = Field(
        8, description="Early stopping: number of epochs without improvement."
    )
    augment: tuple[Literal["flip", "mix"], ...] = Field(
        (),
        description="Augmentations. flip: mirror images horizontally; mix: blend each sample with "
        "another.",
    )
    aware: bool = Field(
        False,
        description="Quantization-aware training: weights and activations are rounded to int8 "
        "during training, as `quantize` does later.",
    )
    iterative: PositiveInt = Field(
        1,
        description="Number of rounds: alternate between pruning and recovery, each round with its "
        "part of the pruning, epochs and minutes.",
    )
    seed: NonNegativeInt = Field(0, description="Seed of the order of samples and augmentations.")

    @property
    def varies(self) -> str | None:
        """Reason why recovering again may give other weights, or None."""
        if self.distill == "batchnorm":  # statistics depend on the samples only
            return None
        return "recover trained for a time, not for a number of steps"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"distill": value} if isinstance(value, str) else value
