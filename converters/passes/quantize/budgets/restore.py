"""Float weights for layers of a quantized graph: mixed precision without recalibration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from converters.graph.flow.follow import PASSED_ON, makers
from converters.graph.qdq import (
    COMPUTE,
    constant,
    drop_unused,
    layers,
    new_constant,
    quantizers,
    users,
)

if TYPE_CHECKING:
    import onnx_ir as ir

_LIGHT: Mapping[str, tuple[int, ...]] = {
    **PASSED_ON,
    **dict.fromkeys(("Relu", "Clip", "QuantizeLinear", "DequantizeLinear"), (0,)),
}
"""Operators between layers that compute in the precision of their neighbours."""


def restore(model: ir.Model, original: ir.Model, names: Collection[str]) -> None:
    """Make the layers `names` of the quantized `model` float32 again, in place.

    Their weights and biases (which were corrected for the rounding of others) are those of
    `original`, the graph before quantization. A pair with only float layers around it is removed
    too.
    """
    before = {node.name: node for node in original.graph}
    for layer in list(layers(model)):
        if layer.node.name not in names or layer.weight is None:
            continue
        source = before[str(layer.node.name)]
        for index in range(1, len(layer.node.inputs)):
            value = source.inputs[index]
            array = constant(value)
            if array is not None:
                assert value is not None
                weight = new_constant(model, f"{value.name}_float32", array)
                layer.node.replace_input_with(index, weight)
    _bypass(model)
    drop_unused(model)


def _bypass(model: ir.Model) -> None:
    """Remove the pairs between float layers."""
    quantized = {layer.node for layer in layers(model) if layer.weight is not None}
    for node in quantizers(model):
        source = node.inputs[0]
        readers = users(node.outputs[0])
        if source is None or any(reader.op_type != "DequantizeLinear" for reader in readers):
            continue
        if _comes_from(source, quantized) or any(
            _feeds(reader.outputs[0], quantized) for reader in readers
        ):
            continue
        for reader in readers:
            reader.outputs[0].replace_all_uses_with(source, replace_graph_outputs=True)


def _comes_from(value: ir.Value, quantized: Collection[ir.Node]) -> bool:
    """Return whether a quantized layer, or an operator between such, computes a part of the value."""
    return any(not _is_float_layer(node, quantized) for node in makers(value, _LIGHT))


def _feeds(value: ir.Value, quantized: Collection[ir.Node]) -> bool:
    """Return whether a quantized layer, or an operator between such layers, reads the value."""
    for reader in users(value):
        if reader.op_type in _LIGHT:
            if _feeds(reader.outputs[0], quantized):
                return True
        elif not _is_float_layer(reader, quantized):
            return True
    return False


def _is_float_layer(node: ir.Node, quantized: Collection[ir.Node]) -> bool:
    return node.op_type in COMPUTE and node not in quantized
