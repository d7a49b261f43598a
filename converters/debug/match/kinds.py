"""Kinds of operations: one vocabulary for torch's classes, aten, ONNX and OpenVINO."""

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
# ONNX Runtime's own operators compute the same, in integers or with a fused activation.
_ENGINE_PREFIXES = ("nhwcfused", "fused", "qlinear")

ACTIVATIONS = frozenset(
    {
        "relu",
        "relu6",
        "silu",
        "gelu",
        "sigmoid",
        "tanh",
        "hardswish",
        "hardsigmoid",
        "elu",
        "leakyrelu",
        "mish",
    }
)
"""Any of them may match any other: a replaced activation is a fault to find, not another layer."""


def kind_of_operator(name: str) -> str:
    """Return the kind of `aten::conv2d`, `aten::relu_`, `Conv`, `BatchNormalization`."""
    plain = name.rpartition("::")[2].replace("_", "").lower()
    plain = re.sub(r"\dd$", "", plain)
    for prefix in _ENGINE_PREFIXES:
        plain = plain.removeprefix(prefix)
    return _ALIASES.get(plain, plain)


def kind_of_module(module: Any) -> str:
    """Return the kind of a torch.nn layer or of a class derived from one; "" for all others."""
    layer_class = next(
        base for base in type(module).__mro__ if base.__module__.startswith("torch.nn.modules")
    )
    if layer_class.__name__ == "Module":
        return ""
    return kind_of_operator(layer_class.__name__)


def replaces(module_kind: str, operator_kind: str) -> int:
    """Return how well an operator fits a module: 3 the same, 1 another activation, 0 not at all."""
    if not module_kind:
        return 0
    if module_kind == operator_kind:
        return 3
    return int(module_kind in ACTIVATIONS and operator_kind in ACTIVATIONS)
