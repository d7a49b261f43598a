"""The layers of an OpenVINO model that multiply and add: their kind, how much they do, how."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtimes.engines.openvino.layers import ExecutedLayer
from runtimes.precision.judge import ComputingLayer
from runtimes.precision.table import Kind

_KINDS: Mapping[str, Kind] = {
    "Convolution": "convolution",
    "GroupConvolution": "convolution",
    "ConvolutionBackpropData": "convolution",
    "GroupConvolutionBackpropData": "convolution",
    "MatMul": "linear",
    "ScaledDotProductAttention": "product",
    "LSTMSequence": "lstm",
    "LSTMCell": "lstm",
    "GRUSequence": "recurrent",
    "GRUCell": "recurrent",
    "RNNSequence": "recurrent",
    "RNNCell": "recurrent",
}
_OF_CONSTANTS = (
    "Convert",
    "FakeQuantize",
    "Multiply",
    "Reshape",
    "Subtract",
    "Transpose",
    "Unsqueeze",
)

_FUSED_AFTER = 8
"""The most operations that a layer of the plugin fuses after a product."""


def computing_layers(
    model: Any, layers: Sequence[ExecutedLayer], modules: Mapping[str, str]
) -> list[ComputingLayer]:
    """Return the computing operations that a compiled model executes.

    Args:
        model: before it is compiled, with fixed sizes.
        layers: as they are executed.
        modules: the module path of each operation, by name.
    """
    operations = [op for op in model.get_ops() if op.get_type_name() in _KINDS]
    executed = _executed({operation.get_friendly_name() for operation in operations}, layers)
    listed = []
    mapped: set[ExecutedLayer] = set()
    for operation in operations:
        if (place := _place(operation, executed)) is not None:
            name = operation.get_friendly_name()
            mapped.add(place.layer)
            amount = _multiply_adds(operation)
            path = modules.get(name, name)
            listed.append(ComputingLayer(name, path, _kind(operation), place.precision, amount))
    for layer in layers:
        if layer.precisions and layer not in mapped:
            # No operation is known to be this one: it is listed as it is, and nothing excuses it.
            name = layer.operations[-1]
            listed.append(ComputingLayer(name, name, "linear", layer.precisions[-1]))
    return listed


@dataclass(frozen=True)
class _Place:
    """The layer that computes an operation, and its precision there."""

    layer: ExecutedLayer
    precision: str


def _executed(names: Collection[str], layers: Sequence[ExecutedLayer]) -> dict[str, _Place]:
    """Return the place of each operation that a layer names; all of them, if it names no other."""
    executed: dict[str, _Place] = {}
    for layer in layers:
        # Which products of a chain are its integer ones, it does not say: they are counted first.
        computing = [name for name in layer.operations if name in names] or layer.operations
        for index, name in enumerate(computing):
            if layer.precisions:
                last = len(layer.precisions) - 1
                executed[name] = _Place(layer, layer.precisions[min(index, last)])
    return executed


def _place(operation: Any, executed: Mapping[str, _Place]) -> _Place | None:
    """Return the place of an operation; None if none is known.

    A layer that fuses an operation with the next, such as a bias, may name the last one alone.
    """
    for _ in range(_FUSED_AFTER):
        if (place := executed.get(operation.get_friendly_name())) is not None:
            return place
        users = [port.get_node() for port in operation.output(0).get_target_inputs()]
        if len(users) != 1:
            return None
        operation = users[0]
    return None


def _kind(operation: Any) -> Kind:
    kind = _KINDS[operation.get_type_name()]
    if kind == "linear" and not any(_is_constant(operation, index) for index in (0, 1)):
        return "product"
    return kind


def _is_constant(operation: Any, index: int) -> bool:
    """Return whether an input is a constant, also a quantized or moved one."""
    source = operation.input_value(index).get_node()
    if source.get_type_name() in _OF_CONSTANTS:
        return all(_is_constant(source, number) for number in range(source.get_input_size()))
    return bool(source.get_type_name() == "Constant")


def _multiply_adds(operation: Any) -> int | None:
    """Count the multiply-adds of an operation; None if it has a dynamic size, or is of no such kind."""
    values = [*operation.inputs(), *operation.outputs()]
    if any(value.get_partial_shape().is_dynamic for value in values):
        return None
    shapes = [[int(size) for size in value.get_shape()] for value in operation.inputs()]
    result = [int(size) for size in operation.output(0).get_shape()]
    name = str(operation.get_type_name())
    if "Convolution" in name:
        positions = shapes[0] if name.endswith("BackpropData") else result
        return math.prod(positions) * math.prod(shapes[1][2 if name.startswith("Group") else 1 :])
    if name == "MatMul":
        transposed = operation.get_attributes()["transpose_a"]
        inner = shapes[0][-2 if transposed and len(shapes[0]) > 1 else -1]
        return math.prod(result) * inner
    if name in ("LSTMSequence", "GRUSequence", "RNNSequence"):
        matrices = [shape for shape in shapes[3:] if len(shape) == 3]
        return math.prod(shapes[0][:2]) * sum(map(math.prod, matrices))
    return None
