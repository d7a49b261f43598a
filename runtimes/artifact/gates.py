"""Gates of a recipe, and their defaults."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from runtimes.spec import Strict


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
    top1_agreement: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Minimum share of samples whose best class is the same as eager's (0..1).",
    )
    max_abs: float | None = Field(
        None, gt=0, description="Maximum absolute error against the truth."
    )
    accuracy_drop: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Maximum of eager's accuracy minus the artifact's on labelled data (0..1).",
    )
