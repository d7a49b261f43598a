"""Rewrite a QDQ graph for TensorRT, which takes symmetric int8 only and no quantized biases.

This is the only lowering that changes numbers: a range of -1..3 becomes -3..3, so that up to half
of the codes are unused. Weights stay as they are, and biases become the float numbers that their
integers stood for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converters.graph.lower import positive_axes
from converters.graph.qdq import (
    constant,
    drop_unused,
    new_constant,
    quantizers,
    scale_of,
    users,
    zero_point_of,
)

if TYPE_CHECKING:
    import onnx_ir as ir

_INT8_MAX = 127


def lower_for_tensorrt(model: ir.Model) -> dict[str, int]:
    """Apply the rewrites in place; return how often each was done."""
    counts = {
        "positive_axes": positive_axes(model),
        "symmetric_activations": symmetric_activations(model),
        "float_biases": float_biases(model),
    }
    drop_unused(model)
    return counts


def symmetric_activations(model: ir.Model) -> int:
    """Widen asymmetric or unsigned activations to the smallest symmetric int8 range."""
    import onnx_ir as ir

    changed = 0
    for node in quantizers(model):
        zero, scale = zero_point_of(node), scale_of(node)
        if zero.dtype == np.int8 and not zero.any():
            continue
        limits = np.iinfo(zero.dtype)
        low, high = (float(limits.min) - zero) * scale, (float(limits.max) - zero) * scale
        wide = (np.maximum(np.abs(low), np.abs(high)) / _INT8_MAX).astype(np.float32)
        name = node.outputs[0].name
        step = new_constant(model, f"{name}_symmetric_scale", wide)
        zeros = new_constant(model, f"{name}_symmetric_zero", np.zeros(zero.shape, np.int8))
        for reader in (node, *users(node.outputs[0])):
            reader.replace_input_with(1, step)
            reader.replace_input_with(2, zeros)
        node.outputs[0].dtype = ir.DataType.INT8
        changed += 1
    return changed


def float_biases(model: ir.Model) -> int:
    """Turn int32 constants with a DequantizeLinear into float constants."""
    changed = 0
    for node in list(model.graph):
        codes = constant(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
        if codes is None or codes.dtype != np.int32:
            continue
        values = (codes.astype(np.float64) * scale_of(node)).astype(np.float32)
        name = f"{node.outputs[0].name}_constant"
        node.outputs[0].replace_all_uses_with(new_constant(model, name, values))
        changed += 1
    return changed
