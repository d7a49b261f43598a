"""Effects of each mode of a format on each kind of layer, as data.

An engine has integer kernels for some layers only, and a quantizer leaves others float on purpose.
A recipe asks for a mode; an artifact is held to the row of that mode, and no more is asked of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Kind = Literal["convolution", "linear", "product", "lstm", "recurrent"]
"""Kinds of layers that multiply and add.

convolution: with weights, transposed or not; linear: a matrix product with weights; product: of two
computed values, as in attention; lstm: LSTM layers; recurrent: GRU and RNN layers.
"""
KINDS: tuple[Kind, ...] = get_args(Kind)

Effect = Literal["always", "sometimes", "never"]
"""always: each layer of the kind computes in the mode's precision, or the artifact is not what was
asked for; sometimes: the quantizer decides; never: the engine has no kernel, or the mode leaves
them out."""

Row = Mapping[Kind, Effect]

WORDS: Mapping[Kind, str] = {
    "convolution": "convolutions",
    "linear": "products with weights",
    "product": "products of computed values",
    "lstm": "LSTM layers",
    "recurrent": "GRU and RNN layers",
}

CAST: Row = dict.fromkeys(KINDS, "always")
"""Of a precision without quantization: fp32, fp16 and bf16."""

# Products after a softmax are left float by NNCF and torchao: shares of a sum lose most by rounding.
# No engine here has an integer kernel for a recurrent layer with calibrated ranges.
_STATIC: Row = {
    "convolution": "always",
    "linear": "always",
    "product": "sometimes",
    "lstm": "never",
    "recurrent": "never",
}
# ONNX Runtime: MatMulInteger needs a constant factor, DynamicQuantizeLSTM has no counterpart for GRU
# and RNN (microsoft/onnxruntime#9796), ConvInteger is slower than float.
_DYNAMIC: Row = {
    "convolution": "never",
    "linear": "always",
    "product": "never",
    "lstm": "always",
    "recurrent": "never",
}
# MatMulNBits is a matrix product; no other operator takes packed weights.
_WEIGHT_ONLY: Row = {
    "convolution": "never",
    "linear": "always",
    "product": "never",
    "lstm": "never",
    "recurrent": "never",
}

TABLE: Mapping[tuple[str, str], Row] = {
    ("onnx", "static"): _STATIC,
    ("onnx", "dynamic"): _DYNAMIC,
    ("onnx", "weight-only"): _WEIGHT_ONLY,
    ("openvino", "static"): _STATIC,
    ("tensorrt", "static"): _STATIC,
    ("aot-inductor", "static"): _STATIC,
}
"""Rows by format and mode of quantization."""


def row_of(format_name: str, mode: str | None) -> Row:
    """Return the row of a format and a mode of quantization; None stands for none.

    A format of a plug-in is held to the same as ONNX.
    """
    if mode is None:
        return CAST
    return TABLE.get((format_name, mode)) or TABLE["onnx", mode]
