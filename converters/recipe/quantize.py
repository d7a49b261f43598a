"""What a recipe may say of quantization."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from runtimes.spec import Strict

SHORT: dict[str, dict[str, str]] = {
    "int8": {"to": "int8"},
    "int4": {"to": "int4", "mode": "weight-only"},
    "dynamic": {"mode": "dynamic"},
    "weight-only": {"mode": "weight-only"},
}
"""What `quantize: WORD` stands for."""


MOST = 0.5
"""At most this share of the layers may an accuracy budget keep float: beyond it nothing much is quantized."""


class QuantizeOptions(Strict):
    """Options of the pass `quantize`."""

    to: Literal["int8", "int4"] = Field("int8", description="int4 is for weight-only.")
    mode: Literal["static", "dynamic", "weight-only"] = Field(
        "static",
        description="static: weights and activations, calibrated; dynamic: activation ranges found while running "
        "(transformers, RNNs); weight-only: Linear, MatMul and Embedding weights, computed in float.",
    )
    method: Literal["auto", "nncf", "onnxruntime"] = Field(
        "auto", description="The quantizer: NNCF for static (it corrects biases), ONNX Runtime for the others."
    )
    calibrate: Literal["auto", "min-max", "percentile", "entropy", "mse"] = Field(
        "auto",
        description="How activation ranges are chosen; auto: NNCF's own way or min-max, whichever leaves more of "
        "the signal on the calibration samples (ONNX Runtime: its own).",
    )
    exclude: tuple[str, ...] = Field(
        (), description="Layers that stay float: module paths as in layer2.0.conv1, or patterns such as layer1.*"
    )
    samples: PositiveInt | None = Field(None, description="Calibration samples to use; default: all of `data:`.")
    group: PositiveInt = Field(32, description="Weights that share a scale (weight-only).")
    max_drop: float | None = Field(
        None,
        gt=0,
        lt=100,
        description="Accuracy budget in percentage points: layers stay float until the metric holds it.",
    )
    metric: Literal["top1", "agreement", "sqnr"] = Field(
        "agreement",
        description="Of max_drop. top1: accuracy on labels; agreement: with eager's best class; "
        "sqnr: rms error as a percentage of the output's rms.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in SHORT:
                raise ValueError(f"must be one of {', '.join(SHORT)}, or a mapping with `to:` and the like")
            return SHORT[value]
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.to == "int4" and self.mode != "weight-only":
            raise ValueError("int4 needs `mode: weight-only`: no engine here computes in int4")
        if self.max_drop is not None and self.mode != "static":
            raise ValueError("max_drop is for `mode: static`")
        if self.mode != "static" and self.method == "nncf":
            raise ValueError(f"`mode: {self.mode}` is done by onnxruntime, not {self.method}")
        if self.method == "nncf" and self.calibrate == "entropy":
            raise ValueError("NNCF has no entropy calibration: use `method: onnxruntime`")
        if self.method == "onnxruntime" and self.calibrate == "mse":
            raise ValueError("ONNX Runtime has no MSE calibration: use `method: nncf`")
        return self

    @property
    def varies(self) -> str | None:
        """Why quantizing again may give other integers, or None."""
        return "quantize kept layers float by the time that they take" if self.max_drop is not None else None

    @property
    def quantizer(self) -> str:
        """The method that `auto` stands for."""
        if self.method != "auto":
            return self.method
        return "nncf" if self.mode == "static" and self.calibrate != "entropy" else "onnxruntime"
