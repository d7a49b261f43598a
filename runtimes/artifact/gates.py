"""Gates of a recipe, and their defaults."""

from __future__ import annotations

from typing import Any

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from runtimes.points import Fraction, Share
from runtimes.spec import Strict


class OutputGates(Strict):
    """Requirements on one output, instead of those on all; an ignored one is not judged at all."""

    model_config = ConfigDict(allow_inf_nan=False)

    ignore: bool = Field(False, description="Do not judge this output.")
    noise: float | None = Field(None, gt=0, description="As `gates.noise`, for this output.")
    sqnr_db: float | None = Field(None, description="As `gates.sqnr_db`, for this output.")
    max_abs: float | None = Field(
        None, gt=0, description="Maximum absolute error against the truth, for this output."
    )

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by the measure that they are for."""
        return self.model_dump(exclude={"ignore"}, exclude_none=True)


class Gates(Strict):
    """Requirements on an artifact's measurements; unset ones follow the artifact's precision."""

    model_config = ConfigDict(
        allow_inf_nan=False
    )  # an infinite limit would switch a gate off unseen

    speedup: float | None = Field(
        1.0,
        ge=0,
        description="Minimum speed-up: eager's latency over the artifact's; null: not required.",
    )
    parent_speedup: float | None = Field(
        1.0,
        ge=0,
        description="Minimum speed-up over the same format without the artifact's passes; "
        "null: not required.",
    )
    parent_size: float | None = Field(
        1.0,
        gt=0,
        description="If channels were pruned: maximum size (exclusive) over that of the same format "
        "without the artifact's passes; null: not required.",
    )
    deadline_ms: float | None = Field(
        None,
        gt=0,
        description="Deadline in ms of single requests that arrive at this interval; it holds for "
        "their 99th percentile.",
    )
    noise: float | None = Field(
        None,
        gt=0,
        description="Maximum of rmse(artifact, truth) / rmse(eager, truth), for float32 artifacts.",
    )
    sqnr_db: float | None = Field(
        None,
        description="Minimum SQNR in dB against the float64 truth, for lossy artifacts.",
    )
    top1_agreement: Fraction | None = Field(
        None,
        description="Minimum share of samples whose best class is the same as eager's, such as "
        "0.98 or `98%`.",
    )
    max_abs: float | None = Field(
        None, gt=0, description="Maximum absolute error against the truth."
    )
    accuracy_drop: Share | None = Field(
        None,
        description="Maximum of eager's accuracy minus the artifact's on labelled data, such as "
        "`0.5%` or `0.5 points`. A bare number is a share: 0.01 is one point.",
    )
    outputs: dict[str, OutputGates] = Field(
        default_factory=dict,
        description="Gates of single outputs, instead of `noise`, `sqnr_db` and `max_abs` here.",
    )
    original_sqnr_db: float | None = Field(
        None,
        description="Minimum SQNR in dB of an artifact of a pruned or trained model against the "
        "model before, over what varies in the samples.",
    )
    metric_drop: float | None = Field(
        None,
        ge=0,
        description="Maximum by which the recipe's `metric` may be worse than the eager model's, in "
        "the metric's own unit.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_older_manifest(cls, data: Any) -> Any:
        """Drop the defaults of manifests that listed every gate, whether a recipe had it or not."""
        if not isinstance(data, dict) or not data.keys() >= _LISTED_ONCE:
            return data
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {name: value for name, value in data.items() if value != defaults.get(name)}

    @model_serializer(mode="wrap")
    def _only_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write what the recipe asks for: an undecided default fails no artifact."""
        written: dict[str, Any] = handler(self)
        return {name: value for name, value in written.items() if name in self.model_fields_set}


_LISTED_ONCE = {
    "speedup",
    "parent_speedup",
    "parent_size",
    "deadline_ms",
    "noise",
    "sqnr_db",
    "top1_agreement",
    "max_abs",
    "accuracy_drop",
}
