"""Give layers of a quantized graph their float weights back: mixed precision without calibrating again."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from converters.graph.qdq import (
    COMPUTE,
    MOVERS,
    constant,
    drop_unused,
    layers,
    new_constant,
    quantizers,
    users,
)

if TYPE_CHECKING:
    import onnx_ir as ir

_LIGHT = (*MOVERS, "Relu", "Clip")
"""Operators between layers that compute in whatever precision is around them."""


def restore(model: ir.Model, original: ir.Model, names: Collection[str]) -> None:
    """Make the layers `names` of the quantized `model` float32 again, in place.

    Their weights and biases (which were corrected for the rounding of others) are those of `original`, the graph
    before quantization. Where everything around a quantized value is float, the pair goes too.
    """
    before = {node.name: node for node in original.graph}
    for layer in list(layers(model)):
        if layer.node.name not in names or layer.weight is None:
            continue
        source = before[str(layer.node.name)]
        for index in range(1, len(layer.node.inputs)):
            array = constant(source.inputs[index])
            if array is not None:
                value = source.inputs[index]
                assert value is not None
                layer.node.replace_input_with(index, new_constant(model, f"{value.name}_float32", array))
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
        if _made_by(source, quantized) or any(_feeds(reader.outputs[0], quantized) for reader in readers):
            continue
        for reader in readers:
            reader.outputs[0].replace_all_uses_with(source, replace_graph_outputs=True)


def _made_by(value: ir.Value, quantized: Collection[ir.Node]) -> bool:
    """Whether a quantized layer, or an operator between such (an addition), makes the value."""
    made = value.producer()
    while made is not None and made.op_type in _LIGHT and made.inputs[0] is not None:
        made = made.inputs[0].producer()
    return made is not None and (made in quantized or not _is_float_layer(made, quantized))


def _feeds(value: ir.Value, quantized: Collection[ir.Node]) -> bool:
    return any(
        _feeds(reader.outputs[0], quantized) if reader.op_type in _LIGHT else not _is_float_layer(reader, quantized)
        for reader in users(value)
    )


def _is_float_layer(node: ir.Node, quantized: Collection[ir.Node]) -> bool:
    return node.op_type in COMPUTE and node not in quantized
