"""What an operator or a module computes, in one vocabulary for torch's classes, aten, ONNX and OpenVINO."""

from __future__ import annotations

import re
from typing import Any

_ALIASES = {
    "convolution": "conv",
    "groupconvolution": "conv",
    "convolutionbackpropdata": "convtranspose",
    "groupconvolutionbackpropdata": "convtranspose",
    "gemm": "linear",
    "matmul": "linear",
    "addmm": "linear",
    "clip": "relu6",
    "clamp": "relu6",
    "hswish": "hardswish",
    "hsigmoid": "hardsigmoid",
    "multiply": "mul",
    "interpolate": "upsample",
    "hardtanh": "relu6",
    "swish": "silu",
    "batchnormalization": "batchnorm",
    "instancenormalization": "instancenorm",
    "layernormalization": "layernorm",
    "groupnormalization": "groupnorm",
    "globalaveragepool": "adaptiveavgpool",
    "averagepool": "avgpool",
    "logsoftmax": "softmax",
    "upsamplenearest": "upsample",
    "upsamplebilinear": "upsample",
    "upsamplebicubic": "upsample",
    "resize": "upsample",
    "nativedropout": "dropout",
    "featuredropout": "dropout",
    "alphadropout": "dropout",
    "qgemm": "linear",
}
# ONNX Runtime's own operators compute what the plain ones do, in integers or with an activation behind.
_ENGINE_PREFIXES = ("nhwcfused", "fused", "qlinear")

ACTIVATIONS = frozenset(
    {"relu", "relu6", "silu", "gelu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "elu", "leakyrelu", "mish"}
)
"""One may stand where another should: an activation that was replaced is a fault to find, not another layer."""


def kind_of_operator(name: str) -> str:
    """The kind of `aten::conv2d`, `aten::relu_`, `Conv`, `BatchNormalization`."""
    plain = name.rpartition("::")[2].replace("_", "").lower()
    plain = re.sub(r"\dd$", "", plain)
    for prefix in _ENGINE_PREFIXES:
        plain = plain.removeprefix(prefix)
    return _ALIASES.get(plain, plain)


def kind_of_module(module: Any) -> str:
    """The kind of one of torch's own layers or of a class derived from one; "" for all others."""
    own = next(kind for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.modules"))
    return "" if own.__name__ == "Module" else kind_of_operator(own.__name__)


def replaces(wanted: str, found: str) -> int:
    """How well an operator's kind fits a module's: 3 the same, 1 another activation, 0 not at all."""
    if not wanted:
        return 0
    if wanted == found:
        return 3
    return int(wanted in ACTIVATIONS and found in ACTIVATIONS)
