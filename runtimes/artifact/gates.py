"""Gates of a recipe, and their defaults."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from runtimes.spec import Strict


class Gates(Strict):
    """Requirements on an artifact's measurements; what is not set follows the artifact's precision."""

    model_config = ConfigDict(allow_inf_nan=False)  # an infinite limit would switch a gate off unseen

    speedup: float | None = Field(
        1.0, ge=0, description="Median latency of eager over the artifact's, at least; null: not required."
    )
    parent_speedup: float | None = Field(
        1.0,
        ge=0,
        description="Median latency of the same format without its passes over the artifact's, at least; "
        "null: not required.",
    )
    parent_size: float | None = Field(
        1.0,
        gt=0,
        description="Where channels were pruned: size over that of the same format without its passes, less than; "
        "null: not required.",
    )
    deadline_ms: float | None = Field(
        None, gt=0, description="Single requests at this rate: the slowest of a hundred must be answered in time."
    )
    noise: float | None = Field(
        None, gt=0, description="rmse(artifact, truth) / rmse(eager, truth), at most (float32 artifacts)."
    )
    sqnr_db: float | None = Field(
        None, description="Signal to error ratio against the float64 truth in dB, at least (lossy artifacts)."
    )
    top1_agreement: float | None = Field(
        None, ge=0, le=1, description="Share of samples whose best class is the same as eager's, at least."
    )
    max_abs: float | None = Field(None, gt=0, description="Largest absolute error, at most.")
    accuracy_drop: float | None = Field(
        None, ge=0, le=1, description="Eager's accuracy minus the artifact's on labelled data, at most (0..1)."
    )
