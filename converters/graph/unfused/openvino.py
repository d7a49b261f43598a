"""What OpenVINO leaves of a QDQ graph, seen in the model as its CPU plugin executes it.

The plugin's layers tell which operations of the model each of them does. One that does nothing but quantize and
dequantize, and gives floats, was fused with nothing: whoever reads it computes in float.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converters.graph.unfused.report import Unfused

_INTEGERS = ("u8", "i8")
_FLOATS = ("f32", "bf16", "f16")
_WEIGHTED = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
    "MatMul",
)


@dataclass(frozen=True)
class _Layer:
    """A layer as it is executed: its kind, what it gives, the operations it does, the layers that it reads."""

    name: str
    kind: str
    gives: str
    does: tuple[str, ...]
    reads: tuple[str, ...]


def left_by_openvino(compiled: Any, model: Any, modules: Mapping[str, str]) -> list[Unfused]:
    """The layers of a compiled model that read dequantized values and compute in float.

    Not among them: layers with float weights, which stay float on purpose, and the model's own ends.

    Args:
        compiled: the model as a session compiles it.
        model: what was compiled.
        modules: the module path of each of its operations, by name.
    """
    operations = {operation.get_friendly_name(): operation for operation in model.get_ops()}
    pairs = set(_pairs(model))
    layers = [_read(layer) for layer in compiled.get_runtime_model().get_ordered_ops()]
    alone = [layer for layer in layers if layer.does and layer.gives in _FLOATS and pairs.issuperset(layer.does)]
    found = {}
    for layer in _readers(alone, layers):
        done = [name for name in layer.does if name not in pairs]
        if layer.kind == "Output" or not done or any(_float_weight(operations.get(name), pairs) for name in done):
            continue
        path = next((modules[name] for name in done if modules.get(name)), done[0])
        found[layer.name] = Unfused(path, layer.kind, f"it is executed in {layer.gives}")
    return list(found.values())


def _read(layer: Any) -> _Layer:
    facts = layer.get_rt_info()
    kind, gives, does = (str(facts[key].value) for key in ("layerType", "outputPrecisions", "originalLayersNames"))
    reads = tuple(port.get_source_output().get_node().get_friendly_name() for port in layer.inputs())
    return _Layer(layer.get_friendly_name(), kind, gives, tuple(name for name in does.split(",") if name), reads)


def _readers(of: list[_Layer], layers: list[_Layer]) -> Iterator[_Layer]:
    """Who reads the outputs of layers; a change of layout in between is none."""
    readers: dict[str, list[_Layer]] = defaultdict(list)
    for layer in layers:
        for name in layer.reads:
            readers[name].append(layer)
    left = list(of)
    while left:
        for reader in readers[left.pop(0).name]:
            if reader.kind == "Reorder":
                left.append(reader)
            else:
                yield reader


def _pairs(model: Any) -> Iterator[str]:
    """The names of the operations that quantize or dequantize a value that is computed."""
    for operation in model.get_ops():
        kind = operation.get_type_name()
        if kind == "FakeQuantize" or (kind == "Convert" and _type(operation.output(0)) in _INTEGERS):
            yield operation.get_friendly_name()
        elif kind == "Convert" and _type(operation.input_value(0)) in _INTEGERS:
            yield from _dequantization(operation)


def _dequantization(convert: Any) -> Iterator[str]:
    """The names of a dequantization's operations: a Convert, a Subtract where there is a zero point, a Multiply."""
    current = convert
    while current is not None:
        yield current.get_friendly_name()
        users = [port.get_node() for port in current.output(0).get_target_inputs()]
        wanted = {"Convert": ("Subtract", "Multiply"), "Subtract": ("Multiply",)}
        kinds = wanted.get(current.get_type_name(), ())
        current = next((user for user in users if user.get_type_name() in kinds), None)


def _float_weight(operation: Any, pairs: set[str]) -> bool:
    """Whether an operation is a layer whose weight no dequantization makes."""
    if operation is None or operation.get_type_name() not in _WEIGHTED:
        return False
    weight = operation.input_value(1).get_node()
    while weight.get_type_name() in ("Reshape", "Transpose"):
        weight = weight.input_value(0).get_node()
    return weight.get_friendly_name() not in pairs


def _type(port: Any) -> str:
    return str(port.get_element_type().get_type_name())
