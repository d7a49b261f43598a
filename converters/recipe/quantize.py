"""The schema of the pass `quantize`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, ValidationInfo, model_validator

from runtimes.points import WrittenPoints, as_points
from runtimes.spec import Strict

SHORT: dict[str, dict[str, str]] = {
    "int8": {"to": "int8"},
    "int4": {"to": "int4", "mode": "weight-only"},
    "dynamic": {"mode": "dynamic"},
    "weight-only": {"mode": "weight-only"},
}
"""Options that `quantize: WORD` stands for."""

MIXED_SHARE = 0.5
"""Share of the layers that an accuracy budget may keep float at most, and that must be quantized at
least: beyond it hardly anything is quantized."""


def _as_drop(value: Any, info: ValidationInfo) -> Any:
    """Return percentage points, or a number in the unit of the user's metric."""
    if info.data.get("metric") != "user":
        number = as_points(value, info)
        if isinstance(number, int | float) and number >= 100:
            raise ValueError(
                f"a loss of {number:g} points leaves nothing: it must be less than 100"
            )
        return number
    if isinstance(value, str) and ("%" in value or "point" in value):
        raise ValueError(f"is in the unit of the recipe's metric: write a number, not {value!r}")
    return value


Drop = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    BeforeValidator(_as_drop, json_schema_input_type=Annotated[float, Field(gt=0)] | WrittenPoints),
]


class QuantizeOptions(Strict):
    """Options of the pass `quantize`."""

    to: Literal["int8", "int4"] = Field(
        "int8", description="Integer type. int4 is only for `mode: weight-only`."
    )
    mode: Literal["static", "dynamic", "weight-only"] = Field(
        "static",
        description="static: weights and activations, with ranges from calibration data; dynamic: "
        "activation ranges are computed at run time (Linear, MatMul and LSTM: for transformers and "
        "recurrent models); weight-only: weights of Linear, MatMul and Embedding, computed "
        "in float.",
    )
    method: Literal["auto", "nncf", "onnxruntime"] = Field(
        "auto",
        description="Quantizer. auto: NNCF for static quantization, with bias correction, and ONNX "
        "Runtime for the others.",
    )
    calibrate: Literal["auto", "min-max", "percentile", "entropy", "mse"] = Field(
        "auto",
        description="Calibration method: how activation ranges are chosen. auto: NNCF's default or "
        "min-max, whichever has the higher SQNR on the calibration samples (with ONNX Runtime: its "
        "default).",
    )
    exclude: tuple[str, ...] = Field(
        (),
        description="Layers that stay float: module paths such as layer2.0.conv1, or patterns such "
        "as layer1.*",
    )
    samples: PositiveInt | None = Field(
        None,
        description="Number of calibration samples. By default all of `data.calibration`.",
    )
    group: Literal[16, 32, 64, 128, 256] = Field(
        32,
        description="Group size: number of weights that share a scale, for weight-only. ONNX Runtime "
        "has kernels for these.",
    )
    metric: Literal["top1", "agreement", "sqnr", "user"] = Field(
        "agreement",
        description="Metric of max_drop. top1: accuracy on labels; agreement: share of samples "
        "with eager's best class; sqnr: RMS error as a percentage of the output's RMS; user: the "
        "recipe's own `metric:`, in its unit.",
    )
    max_drop: Drop | None = Field(
        None,
        description="Accuracy budget: maximum loss of `metric`, such as `0.5%` or `0.5 points`. "
        "Layers stay float until it holds. A bare number counts percentage points; with `metric: "
        "user` it is in the unit of that metric.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in SHORT:
            raise ValueError(f"must be one of {', '.join(SHORT)}, or a mapping of options")
        return SHORT[value]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.to == "int4" and self.mode != "weight-only":
            raise ValueError("int4 needs `mode: weight-only`: no engine here computes in int4")
        if self.max_drop is not None and self.mode != "static":
            raise ValueError("max_drop is only for `mode: static`")
        if self.mode != "static" and self.method == "nncf":
            raise ValueError(f"`mode: {self.mode}` needs `method: onnxruntime`, not {self.method}")
        if self.method == "nncf" and self.calibrate == "entropy":
            raise ValueError("NNCF has no entropy calibration: use `method: onnxruntime`")
        if self.method == "onnxruntime" and self.calibrate == "mse":
            raise ValueError("ONNX Runtime has no MSE calibration: use `method: nncf`")
        return self

    @property
    def varies(self) -> str | None:
        """Reason why quantizing again may give other integers, or None."""
        if self.max_drop is None:
            return None
        return "quantize kept layers float by the time that they take"

    @property
    def quantizer(self) -> str:
        """Method, with `auto` resolved."""
        if self.method != "auto":
            return self.method
        return "nncf" if self.mode == "static" and self.calibrate != "entropy" else "onnxruntime"
