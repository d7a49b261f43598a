"""Rewrite a QDQ graph for ONNX Runtime's fast kernels. The numbers stay the same.

- Activations get the sign that the CPU's kernels need: uint8 on x86, int8 on Arm (where ONNX
  Runtime has symmetric matrix products for nothing else). Codes and zero points
  move by exactly 128.
- A Clip or Relu that the quantizer's saturation makes superfluous is removed, exactly: between a
  convolution and its QuantizeLinear it would prevent their fusion.
- Biases become int32 at the scale of the accumulator, within half a step of it: matrix products
  only fuse so.
- Convolutions of a picture's three channels get more of them (stem.py), exactly.
- Negative axes are counted from the front, as the fusions require.
- A convolution that stays float after a quantized value reads it through Cast: ONNX Runtime
  quantizes the float weights of any layer after a DequantizeLinear on its own, per tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converters.graph.qdq import (
    GraphLayer,
    constant,
    drop_unused,
    layers,
    new_constant,
    quantizers,
    scale_of,
    users,
    zero_point_of,
)
from converters.graph.stem import widen_stems
from runtimes.machine.machine import Cpu

if TYPE_CHECKING:
    import onnx_ir as ir

_INT32 = 2**31 - 1
_CODES = 128  # from the codes of int8 to those of uint8


def lower_for_onnxruntime(model: ir.Model, cpu: Cpu) -> dict[str, int]:
    """Apply all rewrites for `cpu` in place; return how often each was done."""
    counts = {"positive_axes": positive_axes(model)}
    if cpu == "arm":
        counts["signed_activations"] = signed_activations(model)
    else:
        counts["unsigned_activations"] = unsigned_activations(model)
        counts["widened_stems"] = widen_stems(model)
    counts |= {
        "absorbed_activations": absorb_activations(model),
        "integer_biases": integer_biases(model),
        "guarded_float_layers": guard_float_layers(model),
    }
    drop_unused(model)
    return counts


def positive_axes(model: ir.Model) -> int:
    """Count the axes of quantizations from the front."""
    import onnx_ir as ir

    changed = 0
    for node in model.graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        axis = node.attributes.get("axis")
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if axis is not None and shape is not None and axis.as_int() < 0:
            node.attributes["axis"] = ir.AttrInt64("axis", axis.as_int() + len(shape))
            changed += 1
    return changed


def unsigned_activations(model: ir.Model) -> int:
    """Re-encode int8 activations as uint8."""
    signed = [node for node in quantizers(model) if zero_point_of(node).dtype == np.int8]
    return sum(_recode(model, node, np.uint8, _CODES) for node in signed)


def signed_activations(model: ir.Model) -> int:
    """Re-encode uint8 activations as int8."""
    unsigned = [node for node in quantizers(model) if zero_point_of(node).dtype == np.uint8]
    return sum(_recode(model, node, np.int8, -_CODES) for node in unsigned)


def _recode(model: ir.Model, node: ir.Node, kind: type[np.generic], shift: int) -> bool:
    """Move the codes of a quantizer, and of all nodes that read them, by `shift`."""
    import onnx_ir as ir

    code = node.outputs[0]
    readers = users(code)
    if code.is_graph_output() or any(_foreign(reader, node) for reader in readers):
        return False
    moved = (zero_point_of(node).astype(np.int16) + shift).astype(kind)
    value = new_constant(model, f"{code.name}_zero_{moved.dtype}", moved)
    for user in (node, *readers):
        user.resize_inputs(3)  # a zero point that is left out is one of uint8
        user.replace_input_with(2, value)
    code.dtype = ir.DataType.from_numpy(moved.dtype)
    return True


def _foreign(reader: ir.Node, quantizer: ir.Node) -> bool:
    """Whether a reader of a code is no dequantization, or has another zero point."""
    if reader.op_type != "DequantizeLinear":
        return True
    return not np.array_equal(zero_point_of(reader).ravel(), zero_point_of(quantizer).ravel())


def absorb_activations(model: ir.Model) -> int:
    """Remove each Clip and Relu that saturation makes superfluous for all nodes that read it."""
    changed = 0
    for node in list(model.graph):
        bounds = _bounds(node)
        if bounds is None:
            continue
        value, readers = node.outputs[0], users(node.outputs[0])
        if value.is_graph_output() or not readers:
            continue
        if not all(_saturates(reader, *bounds) for reader in readers):
            continue
        for reader in readers:
            reader.replace_input_with(0, node.inputs[0])
        model.graph.remove(node, safe=True)
        changed += 1
    return changed


def _bounds(node: ir.Node) -> tuple[float, float] | None:
    """Return the bounds of a Clip or Relu; None for other nodes and bounds that are computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type != "Clip":
        return None
    bounds = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        value = node.inputs[index] if index < len(node.inputs) else None
        array = constant(value)
        if value is not None and array is None:
            return None
        bounds.append(float(array) if array is not None else default)
    return bounds[0], bounds[1]


def _saturates(reader: ir.Node, low: float, high: float) -> bool:
    """Whether QuantizeLinear gives the same codes without a clip to low..high before it."""
    if reader.op_type != "QuantizeLinear":
        return False
    zero, scale = zero_point_of(reader), scale_of(reader).astype(np.float32)
    if scale.size != 1:
        return False
    limits = np.iinfo(zero.dtype)
    # As QuantizeLinear does it: divide in float32, round half to even, add the zero point.
    low_code = np.rint(np.float32(low) / scale) + zero.astype(np.float32)
    high_code = np.rint(np.float32(high) / scale) + zero.astype(np.float32)
    return bool((low_code <= limits.min).all() and (high_code >= limits.max).all())


def integer_biases(model: ir.Model) -> int:
    """Write the float biases of quantized layers as int32 with a DequantizeLinear."""
    quantized = [layer for layer in layers(model) if layer.quantized]
    return sum(_integer_bias(model, layer) for layer in quantized)


def _integer_bias(model: ir.Model, layer: GraphLayer) -> bool:
    import onnx_ir as ir

    node = layer.node
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    assert layer.activation is not None and layer.weight is not None
    activation_scale = scale_of(layer.activation).astype(np.float64)
    scale = activation_scale * scale_of(layer.weight).astype(np.float64)
    if bias is None or bias.ndim != 1 or scale.size not in (1, bias.size) or not _plain(node):
        return False
    codes = np.rint(bias / scale.reshape(-1))
    if (np.abs(codes) > _INT32).any():  # a weight channel of almost nothing: its bias stays float
        return False
    name = node.inputs[2].name if node.inputs[2] is not None else ""
    step = np.broadcast_to(scale.reshape(-1), bias.shape).astype(np.float32)
    dequantization = ir.node(
        "DequantizeLinear",
        [
            new_constant(model, f"{name}_{node.name}_int32", codes.astype(np.int32)),
            new_constant(model, f"{name}_{node.name}_scale", step),
        ],
        {"axis": 0},
        name=f"dequantize_{name}_{node.name}",
    )
    value = dequantization.outputs[0]
    value.name, value.dtype = f"{name}_{node.name}_float", ir.DataType.FLOAT
    model.graph.insert_before(node, dequantization)
    node.replace_input_with(2, value)
    return True


def _plain(node: ir.Node) -> bool:
    """Whether the bias is added as it is."""
    if node.op_type != "Gemm":
        return True
    factors = map(node.attributes.get, ("alpha", "beta"))
    return all(factor is None or factor.as_float() == 1.0 for factor in factors)


def guard_float_layers(model: ir.Model) -> int:
    """Read the quantized inputs of layers with float weights through Cast, Sub and Mul."""
    guarded = []
    for layer in layers(model):
        has_float_weight = layer.weight is None and constant(layer.node.inputs[1]) is not None
        if has_float_weight and layer.activation is not None:
            guarded.append(layer)
    return sum(_guard(model, layer) for layer in guarded)


def _guard(model: ir.Model, layer: GraphLayer) -> bool:
    """Compute (code - zero point) * scale in float32, as DequantizeLinear does."""
    import onnx_ir as ir

    read = layer.activation
    if read is None or layer.node.op_type not in ("Conv", "ConvTranspose", "Gemm"):
        return False
    if scale_of(read).size != 1:
        return False
    value = read.outputs[0]
    if layer.node not in users(value):
        return False  # after operators that move values: ONNX Runtime does not see the pair
    zero = zero_point_of(read)
    name = layer.node.name
    chain = [ir.node("Cast", [read.inputs[0]], {"to": int(ir.DataType.FLOAT)}, name=f"{name}_cast")]
    if zero.any():
        shift = new_constant(model, f"{name}_zero", zero.astype(np.float32))
        chain.append(ir.node("Sub", [chain[-1].outputs[0], shift], name=f"{name}_shift"))
    step = new_constant(model, f"{name}_step", scale_of(read).astype(np.float32))
    chain.append(ir.node("Mul", [chain[-1].outputs[0], step], name=f"{name}_times_step"))
    for node in chain:
        node.outputs[0].name, node.outputs[0].shape = f"{node.name}_out", value.shape
        node.outputs[0].dtype = ir.DataType.FLOAT
        model.graph.insert_before(layer.node, node)
    layer.node.replace_input_with(0, chain[-1].outputs[0])
    return True
